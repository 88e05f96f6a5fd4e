/** Metrics of twins, commands, presence, alarms and events (metrics.ts says how numbers become metrics). */
import type { SearchParts } from './app-search.js'
import type { TwinParts } from './app-twins.js'
import type { MetricsRegistry } from './metrics.js'

export function addTwinMetrics (metrics: MetricsRegistry, parts: Omit<TwinParts, 'journal' | 'replicated' | 'inlet' | 'late' | 'questions' | 'models' | 'alarms'>): void {
  const { twins, delivery, commands, presence, bell, copies, applier, events, alarmEngine, sources } = parts
  metrics.stats('twins', () => twins.stats, { gauges: ['waiting', 'cached'] })
  metrics.stats('twin_delivery', () => delivery.stats, { gauges: ['links'] })
  metrics.stats('twin_copies', () => copies.stats)
  metrics.stats('device_messages', () => applier.stats)
  metrics.gauge('twinfold_device_messages_waiting', 'Messages of devices in memory that are not applied', () => applier.waiting)
  metrics.gauge('twinfold_device_messages_lag_seconds', 'How long the oldest message of a device waits to be applied', () => applier.lagMs / 1000)
  metrics.counter('twinfold_commands_created', 'Commands', () => commands.stats.created)
  metrics.counter('twinfold_commands_repeated', 'Requests under an Idempotency-Key that was used', () => commands.stats.repeated)
  metrics.counter('twinfold_commands_refused', 'Commands that were refused', () => commands.stats.refused)
  metrics.counter('twinfold_commands_cancelled', 'Commands that were cancelled', () => commands.stats.cancelled)
  metrics.gauge('twinfold_commands_waiting', 'Requests that wait for the end of a command', () => commands.stats.waiting)
  metrics.stats('command_books', () => commands.stats.books)
  metrics.stats('command_delivery', () => commands.stats.delivery, { gauges: ['links'] })
  metrics.stats('command_answers', () => commands.stats.answers)
  metrics.stats('command_deadlines', () => commands.stats.deadlines, { gauges: ['scheduled', 'lastLateMs'] })
  metrics.stats('presence', () => presence.stats, { gauges: ['devicesConnected', 'pending'] })
  metrics.gaugeBy('twinfold_presence_connected', 'Devices connected to this node', 'tenant', () => presence.connectedByTenant)
  metrics.stats('bell', () => bell.stats)
  metrics.stats('alarms', () => ({ ...alarmEngine.stats, ...alarmEngine.writer.stats }))
  metrics.stats('alarm_sources', () => sources.stats)
  metrics.stats('alarm_edges', () => alarmEngine.tap.stats)
  metrics.stats('alarm_states', () => alarmEngine.sizes, { gauges: ['pairs', 'pending', 'untold'] })
  metrics.stats('events', () => events.stats.sinks)
  metrics.gaugeBy('twinfold_event_lanes', 'Lanes that this node serves for sinks, by state', 'state', () => events.stats.states)
  metrics.gauge('twinfold_event_webhooks', 'Sinks that are served', () => events.stats.webhooks)
  metrics.stats('event_streams', () => events.stats.streams, { gauges: ['streams', 'open'] })
  metrics.stats('event_letters', () => events.stats.letters)
  metrics.counter('twinfold_event_targets_refused', 'Addresses that webhooks may not reach', () => events.stats.refusedTargets)
}

export function addSearchMetrics (metrics: MetricsRegistry, search: SearchParts['search'], jobs: SearchParts['jobs']): void {
  metrics.stats('twin_jobs', () => jobs.stats)
  if (search === null) return
  metrics.stats('search', () => search.asked.stats)
  metrics.stats('search_projection', () => search.projector.stats)
  metrics.gauge('twinfold_search_projection_waiting', 'Devices that are to be read for search', () => search.projector.waiting)
  metrics.gauge('twinfold_search_lag_seconds', 'How far search is behind what happened', () => search.projector.lagSeconds)
}
