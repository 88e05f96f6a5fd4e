/** Fleet search on a ClickHouse server over HTTP. */
import t from 'tap'
import { skipWithout } from '../support/services.js'
import { searchContract } from './search.contract.js'
import { serverEngine, type SearchEngine } from './search-world.js'

t.setTimeout(240_000)

if (!skipWithout(t, 'clickHouse')) {
  void t.test('server', async t => {
    const engine: SearchEngine = await serverEngine(t)
    searchContract(t, () => engine)
  })
}
