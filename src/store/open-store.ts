/** The one place that turns a store specification into a store: the server's wiring and the worker threads use it. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { StoreSpec } from '../../workers/protocol.js'
import { openClusterStore } from './cluster/cluster-store.js'
import { openEmbeddedStore } from './embedded/embedded-store.js'
import type { Store } from './store.js'

/** @param writer true on the main thread, which alone writes registry and plans. */
export async function openStore (spec: StoreSpec, options: { clock: Clock, log: Log, writer: boolean }): Promise<Store> {
  if (spec.kind === 'cluster') return await openClusterStore({ spec, ...options })
  return await openEmbeddedStore({ directory: spec.directory, ...(spec.outbox === undefined ? {} : { outbox: spec.outbox }), ...options })
}
