/**
 * Wires what is known of devices beside their readings: twins, commands, presence, models, alarms, and the events that tell of them. In
 * two steps, because the pipeline stands between: what messages and slices are handed to comes before it, what follows them after it.
 */
import { randomInt, randomUUID } from 'node:crypto'
import { AlarmEngine } from './alarms/alarm-engine.js'
import { AlarmService } from './alarms/alarm-service.js'
import { RuleService } from './alarms/rule-service.js'
import { SourceWatch } from './alarms/source-watch.js'
import { answersApplied } from './commands/answers-applied.js'
import { CommandService } from './commands/command-service.js'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import { TwinfoldError } from './core/errors.js'
import type { KeyedLock } from './core/keyed-lock.js'
import type { Lifecycle } from './core/lifecycle.js'
import type { Log } from './core/log.js'
import { twinView } from './edge/http/twin-view.js'
import { Events } from './events/events.js'
import { appliedStart } from './inlet/applied-start.js'
import { Applier } from './inlet/applier.js'
import { DeviceEvents } from './inlet/device-events.js'
import type { IntentHandler, IntentLog } from './inlet/device-message.js'
import { InletJournal } from './inlet/inlet-journal.js'
import { JournalIntents } from './inlet/intents.js'
import { JournalInlet } from './inlet/journal-inlet.js'
import type { Journal } from './journal/journal-types.js'
import { ReplicatedJournal } from './journal/replicated-journal.js'
import type { Pressure } from './gate/pressure.js'
import { ModelRules } from './models/model-rules.js'
import { ModelService } from './models/model-service.js'
import { ViolationLog } from './models/violation-log.js'
import { DeviceBells } from './nodes/device-bells.js'
import type { NodeMembership } from './nodes/node-membership.js'
import { readBootId } from './pipeline/start-cursor.js'
import { presenceChanges } from './presence/presence-events.js'
import { PresenceService, type PresenceServiceOptions } from './presence/presence-service.js'
import type { DependencyStatus } from './store/dependency-status.js'
import { CachedEntityReader } from './store/cached-entities.js'
import { copiedEntities } from './store/copied-entities.js'
import { methodsOf } from './store/methods-of.js'
import { openEntityCopies } from './store/open-copies.js'
import { openBellBus } from './store/open-live.js'
import type { Store } from './store/store.js'
import type { DeadLetterKeeper } from './tenancy/dead-letter-keeper.js'
import { TwinAnswers } from './twin/twin-answers.js'
import { TwinDelivery } from './twin/twin-delivery.js'
import { TwinService } from './twin/twin-service.js'
import type { StoreSpec } from '../workers/protocol.js'

export interface TwinWiring {
  readonly clock: Clock
  readonly log: Log
  readonly lifecycle: Lifecycle
  readonly watched: (() => readonly DependencyStatus[])[]
  readonly store: Store
  readonly spec: StoreSpec
  readonly journal: Journal & { readonly stampLast: number }
  readonly membership: NodeMembership | null
  /** Of configuration, and random at every start; null where one node has everything to itself. */
  readonly node: { readonly node: string, readonly bootId: string, readonly live: () => readonly string[] } | null
  readonly pressure: Pressure
  readonly deadLetters: DeadLetterKeeper
  /** Of changes of tenants and devices. */
  readonly changes: KeyedLock
}

export interface TwinParts {
  readonly bell: DeviceBells
  readonly presence: PresenceService
  readonly models: ModelService
  /** What became of reads of twins. */
  readonly copies: CachedEntityReader
  readonly twins: TwinService
  readonly delivery: TwinDelivery
  readonly questions: TwinAnswers
  readonly commands: CommandService
  readonly alarmEngine: AlarmEngine
  readonly alarms: AlarmService
  readonly sources: SourceWatch
  readonly modelRules: ModelRules
  readonly events: Events
  readonly applier: Applier
  /** The journal as the edges append to it. */
  readonly journal: Journal
  /** That, where it answers only when the record is in Cassandra as well (`ack: replicated`). */
  readonly replicated: ReplicatedJournal | null
  readonly inlet: JournalInlet
  /** Set once they are there: where events for MQTT subscribers go, and who is told that a device's tags were changed. */
  readonly late: { publish: ((tenant: string, topic: string, payload: Buffer) => Promise<void>) | null, tagsCopied: ((tenant: string, device: string) => void) | null }
}

const drainMs = 5000

const presenceMethods = ['putConnected', 'putDisconnected', 'putLost', 'dropConnections', 'putActivity', 'getPresence', 'putPresenceBoot', 'putPresenceSwept', 'presenceBoots', 'deletePresenceBoot', 'connectionsOf', 'deletePresence', 'takeClaim', 'releaseClaim'] as const

function entitiesOf (store: Store) {
  return methodsOf(store, [
    'getEntity', 'getEntityVersion', 'commitEntities', 'readEntityEvents', 'readEntityItems', 'getEntityItem', 'putEntitySnapshot', 'findEntitySnapshot', 'dropEntityHistory', 'scanEntities', 'appendEvents'
  ])
}

/** Everything that the pipeline and the edges are given. Timers start here, the applier does not: `followDevices`. */
export async function openTwins (config: Config, wiring: TwinWiring): Promise<TwinParts> {
  const { clock, log, lifecycle, watched, store, spec, journal, membership, node, pressure, deadLetters, changes } = wiring
  const shared = spec.kind === 'cluster'
  const bootId = node?.bootId ?? randomUUID()
  const bus = spec.kind === 'cluster' ? openBellBus(spec.redis, { clock, log }) : null
  if (bus !== null) watched.push(() => [bus.status()])
  const bell = new DeviceBells({ bus })
  await lifecycle.open({ name: 'bell', open: async () => { bell.open() }, close: async () => { await bell.close() } })
  // Needed by what they need: they are there before the first connection is.
  const later: { intents: IntentLog | null, applier: Applier | null, sources: SourceWatch | null, closing: boolean } = { intents: null, applier: null, sources: null, closing: false }
  const late: TwinParts['late'] = { publish: null, tagsCopied: null }
  const presenceStore: PresenceServiceOptions['store'] = {
    ...methodsOf(store, presenceMethods),
    appendEvents: async events => {
      await store.appendEvents(events)
      for (const change of presenceChanges(events)) later.sources?.notePresence(change)
    }
  }
  const presence = new PresenceService({ store: presenceStore, membership, node: node?.node ?? '', bootId, staleAfterS: config.staleAfterS, clock, log })
  await lifecycle.open({ name: 'presence', open: async () => { await presence.open() }, close: async () => { await presence.close() } })

  const violations = new ViolationLog({ clock })
  const models = new ModelService({ documents: store, violations, clock, changed: (tenant, type) => { modelRules.forgetModel(tenant, type) } })
  const modelRules = new ModelRules({ registry: store, models, violations, clock })

  const intents: IntentLog | null = shared ? { note: async key => { await later.intents?.note(key) } } : null
  const copies = spec.kind === 'cluster' ? openEntityCopies(spec.redis, { clock, log }) : null
  if (copies !== null) {
    await lifecycle.open({ name: 'copies of twins', close: async () => { await copies.close() } })
    watched.push(() => [copies.status()])
  }
  const reader = new CachedEntityReader({ store, copies: copies?.copies ?? null })
  const twins = new TwinService({
    store: copies === null ? store : { ...entitiesOf(store), ...copiedEntities(store, reader) }, registry: store, deviceLock: changes, rules: modelRules, writer: journal.journalId, authoritative: !shared, intents,
    onTagsCopied: (tenant, device) => {
      bell.ring(tenant, device, 'registry')
      late.tagsCopied?.(tenant, device)
    },
    nowStamp: () => journal.takeStamps(1), random: () => randomInt(2 ** 32) / 2 ** 32, historyDays: config.twinHistoryDays, log
  })
  await lifecycle.open({ name: 'twins', open: async () => { twins.open() }, close: async () => { await twins.close() } })
  const delivery = new TwinDelivery({ twins, bell, log })
  await lifecycle.open({ name: 'twin delivery', open: async () => { delivery.open() }, close: async () => { delivery.close() } })
  const commands = new CommandService({
    store, journalId: journal.journalId, clock, log, bell, shared, intents, pendingMax: config.commandsPendingMax,
    answersApplied: async () => { await answersApplied(journal, () => later.applier?.passedTo ?? 0, clock, () => later.closing) },
    connected: async (tenant, device) => (await presence.view(tenant, [device]))[0].connected
  })
  await lifecycle.open({
    name: 'commands',
    open: async () => { await commands.open() },
    close: async () => {
      later.closing = true
      await commands.close()
    }
  })

  const events = new Events({
    store, clock, log, owner: bootId, node: node?.node ?? 'single', live: node?.live ?? null,
    targets: { allowPrivate: config.webhookPrivate === 'allow', allow: config.webhookAllow },
    twinState: async (tenant, device, name) => {
      const [twin, registered] = await Promise.all([twins.get({ tenant, device, name }), store.getDevice(tenant, device)])
      return twin === null ? null : twinView(twin, registered, 'iso')
    },
    publish: async (tenant, topic, payload) => {
      if (late.publish === null) throw new TwinfoldError('not_ready', 'the broker is not open yet')
      await late.publish(tenant, topic, payload)
    }
  })
  const rules = new RuleService({ documents: store, clock })
  const alarmEngine = new AlarmEngine({
    documents: store, events: store, registry: store, rules, clock, log, node: node?.node ?? 'single', shared, violations: found => { violations.noteAll(found) }
  })
  const repeat: IntentHandler = { repeat: async key => { await (key.kind === 'commands' ? commands : twins).repeat(key) } }
  const applier = new Applier({
    journal, cursors: store, from: await appliedStart(store, journal.journalId, readBootId()), handlers: [twins, commands.answers, new DeviceEvents(store)], intents: shared ? repeat : null,
    deadLetters: { add: async letters => { await deadLetters.add(letters) } }, onApplied: position => { replicated?.appliedUpTo(position) }, clock, log
  })
  later.applier = applier
  const inletJournal = new InletJournal(journal, applier)
  later.intents = new JournalIntents(inletJournal)
  const replicated = config.ack === 'replicated' ? new ReplicatedJournal({ journal: inletJournal }) : null
  // Before the packer packs anything.
  await lifecycle.open({ name: 'alarms', open: async () => { await alarmEngine.open() }, close: async () => { await alarmEngine.close() } })
  const sources = later.sources = new SourceWatch({ engine: alarmEngine, rules, registry: store, twins, presence, clock, log })
  const alarms = new AlarmService({ documents: store, engine: alarmEngine, rules, clock, log, ruleChanged: tenant => { sources.ruleChanged(tenant) } })
  return {
    bell, presence, models, copies: reader, twins, delivery, questions: new TwinAnswers({ twins, log }), commands, alarmEngine, alarms, sources, modelRules, events, applier, journal: replicated ?? inletJournal,
    replicated, inlet: new JournalInlet({ journal: replicated ?? inletJournal, applier, pressure }), late
  }
}

/** After the pipeline: messages are applied, alarms evaluated, events told. */
export async function followDevices (parts: TwinParts, lifecycle: Lifecycle): Promise<void> {
  const { events, applier, sources } = parts
  await lifecycle.open({ name: 'events', open: async () => { events.open() }, close: async () => { await events.close() } })
  await lifecycle.open({ name: 'alarm sources', open: async () => { await sources.open() }, close: async () => { await sources.close() } })
  await lifecycle.open({
    name: 'applier',
    open: async () => { applier.open() },
    close: async () => {
      await applier.drain(drainMs)
      await applier.close()
    }
  })
}
