import t from 'tap'
import { addHttpMetrics, createMetrics, MetricsRegistry, type MetricParts } from '../../src/metrics.js'
import { MqttStats, countReason } from '../../src/edge/mqtt/mqtt-stats.js'
import { JournalStats } from '../../src/journal/journal-stats.js'

function partsOf (): MetricParts & { journal: { stats: JournalStats }, mqtt: { stats: MqttStats } } {
  return {
    journal: { stats: new JournalStats(), diskBytes: 64, unmarkedBytes: 5, state: 'slow' },
    packer: { stats: { slices: 1, busyMs: 1500, lastSliceMs: 20 }, backlogBytes: 7, bytesPerSecond: 8 },
    merger: { stats: { tasks: 2 } },
    pressure: { level: 'open' },
    pressureControl: { stats: { slowed: 1 } },
    planKeeper: { stats: { changes: 0 } },
    keeper: { stats: { flushes: 3 } },
    mqtt: { stats: new MqttStats() },
    queries: { stats: { queries: 4 }, waiting: 2 },
    broker: { stats: { retained: 1 } },
    deadLetters: {},
    hotFollower: null,
    analytics: { projector: { stats: { points: 5, lagSeconds: 1.5 } }, upkeep: { stats: { devices: 2 } } },
    membership: { stats: { beats: 2 }, clockOffsetMs: -20 },
    revocations: null,
    dependencies: () => [{ name: 'Cassandra', state: 'slow', reason: '', sinceMs: 0, calls: 6, failures: 1, rejected: 0, running: 2, waiting: 3 }]
  }
}

void t.test('parts are read when asked, with base units and types that fit', async t => {
  const parts = partsOf()
  const metrics = createMetrics(parts, { processMetrics: false })
  const http = { stats: { requests: 0, bodiesBytes: 3, problems: {} as Record<string, number> } }
  addHttpMetrics(metrics, http)
  parts.journal.stats.committed(3, 900, 3)
  parts.journal.stats.committed(1, 100, 5000)
  countReason(parts.mqtt.stats.refused, 'topic_invalid')
  http.stats.requests = 9
  http.stats.problems.not_found = 2
  const { body, contentType } = await metrics.render()
  t.match(contentType, /^text\/plain/)
  for (const line of [
    '# TYPE twinfold_journal_bytes_total counter',
    'twinfold_journal_bytes_total 1000',
    'twinfold_journal_commit_seconds_bucket{le="0.002"} 0',
    'twinfold_journal_commit_seconds_bucket{le="0.004"} 1',
    'twinfold_journal_commit_seconds_bucket{le="+Inf"} 2',
    'twinfold_journal_commit_seconds_sum 5.003',
    'twinfold_journal_commit_seconds_count 2',
    'twinfold_journal_state{state="slow"} 1',
    'twinfold_journal_state{state="ok"} 0',
    'twinfold_packer_busy_seconds_total 1.5',
    '# TYPE twinfold_packer_last_slice_seconds gauge',
    'twinfold_packer_last_slice_seconds 0.02',
    'twinfold_mqtt_refused_total{reason="topic_invalid"} 1',
    '# TYPE twinfold_mqtt_connections gauge',
    'twinfold_http_requests_total 9',
    'twinfold_http_bodies_bytes 3',
    'twinfold_http_problems_total{reason="not_found"} 2',
    '# TYPE twinfold_analytics_lag_seconds gauge',
    'twinfold_analytics_lag_seconds 1.5',
    'twinfold_clock_offset_seconds -0.02',
    'twinfold_dependency_up{service="cassandra"} 0.5',
    'twinfold_dependency_calls_total{service="cassandra"} 6'
  ]) t.ok(body.split('\n').includes(line), line)
  parts.journal.stats.committed(1, 1, 1)
  t.match((await metrics.render()).body, /^twinfold_journal_bytes_total 1001$/m, 'the next reading is a new one')
})

void t.test('every name is legal and typed once; label values are escaped and bounded', async t => {
  const metrics = new MetricsRegistry({ processMetrics: false })
  const reasons = new Map<string, number>([['a"b\\c\nd', 1]])
  for (let i = 0; i < 1000; i++) reasons.set(`r${i}`, 2)
  metrics.counterBy('twinfold_test', 'test', 'reason', () => reasons)
  const { body } = await metrics.render()
  const lines = body.split('\n').filter(line => line.startsWith('twinfold_test_total'))
  t.equal(lines.length, 201)
  t.ok(lines.includes('twinfold_test_total{reason="a\\"b\\\\c\\nd"} 1'))
  t.ok(lines.includes('twinfold_test_total{reason="other"} 1602'), 'nothing is left out of the sum')
  const all = await createMetrics(partsOf()).render()
  const types = all.body.split('\n').filter(line => line.startsWith('# TYPE')).map(line => line.split(' ')[2])
  t.equal(new Set(types).size, types.length)
  for (const name of types) t.match(name, /^[a-z][a-z0-9_]*$/)
  t.ok(types.some(name => name.startsWith('process_')))
})
