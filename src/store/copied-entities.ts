/** An entity store whose reads go by way of hot copies (cached-entities.ts), and whose commits refresh them. */
import type { CachedEntityReader } from './cached-entities.js'
import type { EntityStore } from './entity-store.js'

type Copied = Pick<EntityStore, 'getEntity' | 'commitEntities'>

/** Takes the place of those two methods of the store. */
export function copiedEntities (store: EntityStore, reader: CachedEntityReader): Copied {
  return {
    getEntity: async key => await reader.getEntity(key),
    commitEntities: async (commits, sync) => {
      const outcomes = await store.commitEntities(commits, sync)
      commits.forEach(({ key, version, state, writer, expected }, i) => {
        if (outcomes[i]) reader.noteCommitted(key, { version, state, writer, writerFrom: expected + 1 })
      })
      return outcomes
    }
  }
}
