/** Fleet search on the engine of the embedded profile. */
import t from 'tap'
import { searchContract } from './search.contract.js'
import { embeddedEngine, type SearchEngine } from './search-world.js'

t.setTimeout(240_000)

void t.test('embedded', async t => {
  const engine: SearchEngine = await embeddedEngine(t)
  searchContract(t, () => engine)
})
