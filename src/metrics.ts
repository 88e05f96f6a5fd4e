/**
 * Metrics in the text format of Prometheus. Parts count in plain `stats` objects as they work; they are read when somebody
 * asks, so a message costs nothing more (FACTS). Names and units are derived here in one place: `busyMs` of the packer is
 * `twinfold_packer_busy_seconds_total`.
 */
import { collectDefaultMetrics, Registry, type Metric } from 'prom-client'
import { ackLatencyBoundsMs } from './edge/mqtt/mqtt-stats.js'
import { commitMsBounds } from './journal/journal-stats.js'
import type { DependencyStatus } from './store/dependency-status.js'

/** Label values of one metric; what goes beyond is added up under `other` (bounded, whatever a part counts by). */
const labelValuesMax = 200

type Numbers = Readonly<Record<string, number>> | ReadonlyMap<string, number>

export interface HistogramSource {
  /** Upper bounds, milliseconds, ascending. */
  readonly boundsMs: readonly number[]
  /** Counts by bucket, one more than bounds. */
  readonly counts: readonly number[]
  readonly sumMs: number
}

/** What to make of a `stats` object: members are counters unless named here. */
export interface StatsShape {
  /** Members that may fall. */
  readonly gauges?: readonly string[]
  /** Members that are left out (histograms are given on their own). */
  readonly omit?: readonly string[]
}

interface Sample {
  readonly value: number
  readonly labels: Readonly<Record<string, string>>
  readonly metricName?: string
}

/** A metric whose samples are read at scrape time; the part of prom-client's metric that its registry uses. */
class ReadMetric {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly aggregator = 'sum'
  readonly #read: () => readonly Sample[]

  constructor (name: string, help: string, type: 'counter' | 'gauge' | 'histogram', read: () => readonly Sample[]) {
    this.name = name
    this.help = help
    this.type = type
    this.#read = read
  }

  get (): object {
    return { name: this.name, help: this.help, type: this.type, aggregator: this.aggregator, values: this.#read() }
  }

  /** Part of the interface; what is read elsewhere is not reset here. */
  reset (): void {}
}

const snake = (name: string): string => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** Base unit and scale by the unit at the end of a name. */
function withUnit (name: string): { name: string, scale: number } {
  return name.endsWith('Ms') ? { name: `${snake(name.slice(0, -2))}_seconds`, scale: 0.001 } : { name: snake(name), scale: 1 }
}

function labelled (counts: Numbers, label: string): Sample[] {
  const entries = counts instanceof Map ? [...counts as ReadonlyMap<string, number>] : Object.entries(counts as Record<string, number>)
  const samples = entries.slice(0, labelValuesMax).map(([value, count]) => ({ value: count, labels: { [label]: value } }))
  const rest = entries.slice(labelValuesMax)
  if (rest.length > 0) samples.push({ value: rest.reduce((sum, [, count]) => sum + count, 0), labels: { [label]: 'other' } })
  return samples
}

export class MetricsRegistry {
  readonly #registry = new Registry()

  /** @param processMetrics also those of the process and of Node (memory, event loop delay, garbage collection). */
  constructor ({ processMetrics = true } = {}) {
    if (processMetrics) collectDefaultMetrics({ register: this.#registry })
  }

  #add (metric: ReadMetric): void {
    this.#registry.registerMetric(metric as unknown as Metric)
  }

  gauge (name: string, help: string, read: () => number): void {
    this.#add(new ReadMetric(name, help, 'gauge', () => [{ value: read(), labels: {} }]))
  }

  counter (name: string, help: string, read: () => number): void {
    this.#add(new ReadMetric(`${name}_total`, help, 'counter', () => [{ value: read(), labels: {} }]))
  }

  counterBy (name: string, help: string, label: string, read: () => Numbers): void {
    this.#add(new ReadMetric(`${name}_total`, help, 'counter', () => labelled(read(), label)))
  }

  gaugeBy (name: string, help: string, label: string, read: () => Numbers): void {
    this.#add(new ReadMetric(name, help, 'gauge', () => labelled(read(), label)))
  }

  /** 1 for the state that holds, 0 for the others. */
  state (name: string, help: string, states: readonly string[], read: () => string): void {
    this.#add(new ReadMetric(name, help, 'gauge', () => {
      const now = read()
      return states.map(state => ({ value: state === now ? 1 : 0, labels: { state } }))
    }))
  }

  /** In seconds. */
  histogram (name: string, help: string, read: () => HistogramSource): void {
    this.#add(new ReadMetric(name, help, 'histogram', () => {
      const { boundsMs, counts, sumMs } = read()
      const samples: Sample[] = []
      let below = 0
      counts.forEach((count, bucket) => {
        below += count
        samples.push({ metricName: `${name}_bucket`, value: below, labels: { le: bucket < boundsMs.length ? String(boundsMs[bucket] / 1000) : '+Inf' } })
      })
      samples.push({ metricName: `${name}_sum`, value: sumMs / 1000, labels: {} }, { metricName: `${name}_count`, value: below, labels: {} })
      return samples
    }))
  }

  /**
   * Every number of a `stats` object as `twinfold_{part}_…`; members that are maps from a reason to a number become one
   * counter with the label `reason`. @param read gives the object; members must be there from the start.
   */
  stats (part: string, read: () => object, { gauges = [], omit = [] }: StatsShape = {}): void {
    const member = (key: string): unknown => (read() as Record<string, unknown>)[key]
    for (const [key, value] of Object.entries(read())) {
      if (omit.includes(key) || Array.isArray(value)) continue
      const { name, scale } = withUnit(key)
      const fullName = `twinfold_${part}_${name}`
      const help = `'${key}' of the ${part.replaceAll('_', ' ')}`
      if (typeof value === 'number') {
        const readOne = (): number => member(key) as number * scale
        if (gauges.includes(key)) this.gauge(fullName, help, readOne)
        else this.counter(fullName, help, readOne)
      } else if (typeof value === 'object' && value !== null) {
        this.counterBy(fullName, help, 'reason', () => member(key) as Numbers)
      }
    }
  }

  async render (): Promise<{ contentType: string, body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() }
  }
}

interface HasStats { readonly stats: object }

/** What the server is made of, as far as it is measured. Parts that are not there yet when this is made may be added later. */
export interface MetricParts {
  readonly journal: { readonly stats: JournalStatsRead, readonly diskBytes: number, readonly unmarkedBytes: number, readonly state: string }
  readonly packer: HasStats & { readonly backlogBytes: number, readonly bytesPerSecond: number }
  readonly merger: HasStats
  readonly pressure: { readonly level: string }
  readonly pressureControl: HasStats
  readonly planKeeper: HasStats
  /** Absent in tests of other parts. */
  readonly sealer?: HasStats
  /** Absent or null: nothing has to be rewritten for a longer retention. */
  readonly retentionRewrite?: HasStats | null
  /** Absent in tests of other parts. */
  readonly live?: HasStats & { readonly nodeStats: object | null }
  /** Absent in tests of other parts. */
  readonly transfer?: { readonly stats: { readonly imports: object, readonly exports: object, readonly jobs: object, readonly exportsRunning: number, readonly spoolBytes: number } }
  readonly keeper: HasStats
  readonly mqtt: { readonly stats: MqttStatsRead }
  readonly queries: HasStats & { readonly waiting: number }
  readonly broker: HasStats
  readonly deadLetters: object & Partial<HasStats>
  readonly hotFollower: HasStats | null
  readonly analytics: { readonly projector: HasStats, readonly upkeep: HasStats } | null
  readonly membership: (HasStats & { readonly clockOffsetMs: number | null }) | null
  readonly revocations: HasStats | null
  readonly dependencies: () => readonly DependencyStatus[]
}

type JournalStatsRead = object & { readonly commitMsSum: number, readonly commitMsBuckets: readonly number[] }
type MqttStatsRead = object & { readonly ackLatencySumMs: number, readonly ackLatencyCounts: readonly number[] }

/** The server's metrics; `addHttpMetrics` adds those of the HTTP edge. */
export function createMetrics (parts: MetricParts, options: { readonly processMetrics?: boolean } = {}): MetricsRegistry {
  const metrics = new MetricsRegistry(options)
  const { journal, packer, pressure, queries, mqtt } = parts
  metrics.stats('journal', () => journal.stats, { omit: ['commitMsLast', 'commitMsSum'] })
  metrics.histogram('twinfold_journal_commit_seconds', 'Write and sync of one group', () => ({ boundsMs: commitMsBounds, counts: journal.stats.commitMsBuckets, sumMs: journal.stats.commitMsSum }))
  metrics.gauge('twinfold_journal_disk_bytes', 'Segments on disk', () => journal.diskBytes)
  metrics.gauge('twinfold_journal_unmarked_bytes', 'Appended since the last slice was closed', () => journal.unmarkedBytes)
  metrics.state('twinfold_journal_state', 'State of the journal', ['ok', 'slow', 'full', 'failed'], () => journal.state)
  metrics.stats('packer', () => packer.stats, { gauges: ['lastSliceMs'] })
  metrics.gauge('twinfold_journal_unpacked_bytes', 'Journal bytes that are not packed yet', () => packer.backlogBytes)
  metrics.gauge('twinfold_packer_bytes_per_second', 'What a thread packs, smoothed', () => packer.bytesPerSecond)
  metrics.state('twinfold_pressure', 'Back-pressure that both edges obey', ['open', 'slow', 'refuse'], () => pressure.level)
  metrics.stats('mqtt', () => mqtt.stats, { gauges: ['connections', 'sessions'], omit: ['ackLatencySumMs'] })
  metrics.histogram('twinfold_mqtt_ack_seconds', 'From the socket read to the durable commit, by message', () => ({ boundsMs: ackLatencyBoundsMs, counts: mqtt.stats.ackLatencyCounts, sumMs: mqtt.stats.ackLatencySumMs }))
  metrics.stats('queries', () => queries.stats)
  metrics.gauge('twinfold_queries_waiting', 'Queries that wait for a thread', () => queries.waiting)
  metrics.stats('merger', () => parts.merger.stats)
  metrics.stats('pressure_control', () => parts.pressureControl.stats)
  const { sealer } = parts
  if (sealer !== undefined) metrics.stats('sealer', () => sealer.stats, { gauges: ['waiting', 'dueBuckets', 'claims', 'lagSeconds'] })
  const { retentionRewrite } = parts
  if (retentionRewrite !== undefined && retentionRewrite !== null) metrics.stats('retention_rewrite', () => retentionRewrite.stats)
  const { live } = parts
  if (live !== undefined) metrics.stats('live', () => live.stats, { gauges: ['subscribers'] })
  if (live !== undefined && live.nodeStats !== null) metrics.stats('live_nodes', () => live.nodeStats as object, { gauges: ['nodes'] })
  const { transfer } = parts
  if (transfer !== undefined) {
    metrics.stats('imports', () => transfer.stats.imports)
    metrics.stats('exports', () => transfer.stats.exports)
    metrics.stats('jobs', () => transfer.stats.jobs)
    metrics.gauge('twinfold_exports_running', 'Exports under way', () => transfer.stats.exportsRunning)
    metrics.gauge('twinfold_import_spool_bytes', 'Files of imports that wait', () => transfer.stats.spoolBytes)
  }
  metrics.stats('plan_keeper', () => parts.planKeeper.stats)
  metrics.stats('journal_keeper', () => parts.keeper.stats)
  const { broker, deadLetters, hotFollower, analytics, membership, revocations } = parts
  metrics.stats('broker', () => broker.stats, { gauges: ['retained', 'retainedBytes', 'sessions', 'subscriptions', 'queued', 'queuedBytes', 'wills', 'incoming', 'peers', 'peerFilters'] })
  if (deadLetters.stats !== undefined) metrics.stats('dead_letters', () => deadLetters.stats as object)
  if (hotFollower !== null) metrics.stats('hot_follower', () => hotFollower.stats)
  if (analytics !== null) {
    metrics.stats('analytics', () => analytics.projector.stats, { gauges: ['lagSeconds', 'sealLagSeconds', 'entriesBehind', 'bytesBehind'] })
    metrics.stats('analytics_upkeep', () => analytics.upkeep.stats, { gauges: ['devices'] })
  }
  if (membership !== null) {
    metrics.stats('nodes', () => membership.stats)
    metrics.gauge('twinfold_clock_offset_seconds', 'This machine\'s clock minus the cluster\'s; NaN while it is not known', () => membership.clockOffsetMs === null ? NaN : membership.clockOffsetMs / 1000)
  }
  if (revocations !== null) metrics.stats('revocations', () => revocations.stats)
  addDependencies(metrics, parts.dependencies)
  return metrics
}

/** Services behind the server: one series a service that is configured. */
function addDependencies (metrics: MetricsRegistry, read: () => readonly DependencyStatus[]): void {
  if (read().length === 0) return
  const by = (member: (status: DependencyStatus) => number) => (): Map<string, number> => new Map(read().map(status => [status.name.toLowerCase(), member(status)]))
  metrics.gaugeBy('twinfold_dependency_up', '1 up, 0.5 slow, 0 down (its circuit is open)', 'service', by(status => status.state === 'up' ? 1 : status.state === 'slow' ? 0.5 : 0))
  metrics.gaugeBy('twinfold_dependency_running', 'Calls under way', 'service', by(status => status.running))
  metrics.gaugeBy('twinfold_dependency_waiting', 'Calls that wait for room', 'service', by(status => status.waiting))
  metrics.counterBy('twinfold_dependency_calls', 'Calls of the main thread', 'service', by(status => status.calls))
  metrics.counterBy('twinfold_dependency_failures', 'Calls that failed for the service\'s sake', 'service', by(status => status.failures))
  metrics.counterBy('twinfold_dependency_rejected', 'Calls refused at once: the circuit was open, or no room', 'service', by(status => status.rejected))
}

/** The HTTP edge is made after the metrics that it serves, so it is added once it is there. */
export function addHttpMetrics (metrics: MetricsRegistry, http: HasStats): void {
  metrics.stats('http', () => http.stats, { gauges: ['pressureWaiting', 'bodiesBytes', 'webSockets'] })
}
