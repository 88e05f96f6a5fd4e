/** The one place that turns a configuration into what the MQTT broker keeps and how its nodes talk. */
import { join } from 'node:path'
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { StoreSpec } from '../../workers/protocol.js'
import type { DependencyStatus } from './dependency-status.js'
import { openBrokerPersistence } from './embedded/broker/persistence.js'

export interface OpenedBroker {
  readonly persistence: { readonly stats: object }
  readonly messaging: undefined
  dependencies(): readonly DependencyStatus[]
  close(): Promise<void>
}

export async function openBroker (_spec: StoreSpec, { dataDirectory, clock, log }: { dataDirectory: string, clock: Clock, log: Log }): Promise<OpenedBroker> {
  const persistence = await openBrokerPersistence({
    directory: join(dataDirectory, 'broker'), clock, log, onLimit: (limit, owner) => { log.debug({ limit, owner }, 'a limit of the broker was reached') }
  })
  return { persistence, messaging: undefined, dependencies: () => [], close: async () => { await persistence.close() } }
}
