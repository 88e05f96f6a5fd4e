/** Twins, commands and events for an adoption: those that apply what a dead node's devices had said, without edges or timers. */
import { randomInt } from 'node:crypto'
import type { AppliedBy } from './adopt-messages.js'
import { CommandService } from './commands/command-service.js'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import { KeyedLock } from './core/keyed-lock.js'
import type { Log } from './core/log.js'
import { DeviceEvents } from './inlet/device-events.js'
import { ModelRules } from './models/model-rules.js'
import { ModelService } from './models/model-service.js'
import { ViolationLog } from './models/violation-log.js'
import { DeviceBells } from './nodes/device-bells.js'
import type { Store } from './store/store.js'
import { TwinService } from './twin/twin-service.js'

/** @param journal the adopted one: what its node committed last is found by its id */
export function adoptedHandlers (config: Config, store: Store, journal: { readonly journalId: string, takeStamps (count: number): number }, { clock, log }: { readonly clock: Clock, readonly log: Log }): AppliedBy {
  const violations = new ViolationLog({ clock })
  const rules = new ModelRules({ registry: store, models: new ModelService({ documents: store, violations, clock, changed: () => {} }), violations, clock })
  const twins = new TwinService({
    store, registry: store, deviceLock: new KeyedLock(), rules, writer: journal.journalId, authoritative: false, intents: null, nowStamp: () => journal.takeStamps(1),
    random: () => randomInt(2 ** 32) / 2 ** 32, historyDays: config.twinHistoryDays, log
  })
  const commands = new CommandService({ store, journalId: journal.journalId, clock, log, bell: new DeviceBells({ bus: null }), shared: true, intents: null, answersApplied: async () => {} })
  return {
    handlers: [twins, commands.answers, new DeviceEvents(store)],
    intents: { repeat: async key => { await (key.kind === 'commands' ? commands : twins).repeat(key) } },
    close: async () => {
      await twins.close()
      await commands.close()
    }
  }
}
