import t from 'tap'
import fc from 'fast-check'
import { Side, sideOf, type Threshold } from '../../src/core/threshold.js'
import { afterEdges, afterManualClear, afterSilence, newTrack, type AlarmStep, type Edge, type Track } from '../../src/alarms/alarm-machine.js'
import { cut, naive, told, type Told } from './naive-alarms.js'

t.test('whatever is repeated, comes late or is cut into slices, the alarms are those of the points in order', async t => {
  fc.assert(fc.property(
    fc.array(fc.record({ gap: fc.integer({ min: 1, max: 5 }), side: fc.constantFrom<Side>(0, 1, 2), cut: fc.boolean(), repeat: fc.boolean(), late: fc.option(fc.record({ back: fc.integer({ min: 0, max: 20 }), side: fc.constantFrom<Side>(0, 1, 2) }), { nil: undefined }), silence: fc.boolean() }), { maxLength: 30 }),
    fc.integer({ min: 0, max: 8 }),
    (script, durationUs) => {
      let ts = 10
      const points: Edge[] = []
      const steps: AlarmStep[] = []
      let track: Track = newTrack
      let slice: Edge[] = []
      const evaluate = (edges: readonly Edge[]): void => {
        const advanced = afterEdges(track, cut(edges), durationUs)
        track = advanced.track
        steps.push(...advanced.steps)
      }
      script.forEach((part, at) => {
        ts += part.gap
        const point: Edge = { ts, side: part.side, value: at }
        points.push(point)
        slice.push(point)
        if (!part.cut && at < script.length - 1) return
        evaluate(slice)
        if (part.repeat) evaluate(slice)
        if (part.late !== undefined) evaluate([{ ts: Math.max(0, ts - part.late.back), side: part.late.side, value: -1 }])
        const next = script[at + 1]
        if (part.silence && next !== undefined) {
          // The clock goes on, not past the next point, which is not known yet.
          const advanced = afterSilence(track, ts + next.gap, durationUs)
          track = advanced.track
          steps.push(...advanced.steps)
        }
        slice = []
      })
      return JSON.stringify(told(steps)) === JSON.stringify(naive(points, durationUs))
    }
  ), { numRuns: 500 })
  t.end()
})

t.test('hysteresis: raised beyond the limit, cleared beyond the other one, in between nothing', async t => {
  const condition: Threshold = { op: 'gt', value: 80, clear: { op: 'le', value: 75 } }
  const rows: readonly [number, Told['kind'] | null][] = [[70, null], [80, null], [80.1, 'raise'], [90, null], [78, null], [81, null], [75.1, null], [75, 'clear'], [79, null], [85, 'raise'], [10, 'clear']]
  let track = newTrack
  rows.forEach(([value, expected], at) => {
    const advanced = afterEdges(track, [{ ts: at + 1, side: sideOf(condition, value) as Side, value }], 0)
    track = advanced.track
    t.equal(advanced.steps[0]?.kind ?? null, expected, String(value))
  })
  t.equal(sideOf(condition, 'hot'), null, 'another type says nothing')
  t.equal(sideOf(condition, NaN), null)
  t.equal(sideOf({ op: 'ne', value: 'ok', clear: null }, 'broken'), Side.beyond)
  t.equal(sideOf({ op: 'eq', value: true, clear: null }, false), Side.clear)
})

t.test('duration: raised when it has held so long, at that very time, though seen later or ended meanwhile', async t => {
  const run = (edges: readonly [number, Side][], durationUs: number, silentUntil?: number): Told[] => {
    const advanced = afterEdges(newTrack, edges.map(([ts, side]) => ({ ts, side, value: ts })), durationUs)
    const after = silentUntil === undefined ? { steps: [] } : afterSilence(advanced.track, silentUntil, durationUs)
    return told([...advanced.steps, ...after.steps])
  }
  t.same(run([[10, 2], [19, 2]], 10), [])
  t.same(run([[10, 2], [25, 2]], 10), [{ kind: 'raise', at: 20, since: 10 }])
  t.same(run([[10, 2]], 10, 19), [])
  t.same(run([[10, 2]], 10, 20), [{ kind: 'raise', at: 20, since: 10 }])
  t.same(run([[10, 2], [30, 0]], 10), [{ kind: 'raise', at: 20, since: 10 }, { kind: 'clear', at: 30 }], 'a value holds until the next one')
  t.same(run([[10, 2], [15, 1], [16, 2]], 10, 25), [], 'in between breaks the streak')
  t.same(run([[10, 2], [15, 0], [16, 2]], 10, 26), [{ kind: 'raise', at: 26, since: 16 }])
})

t.test('what was cleared by hand is not raised again for the same streak', async t => {
  let track = afterManualClear(afterEdges(newTrack, [{ ts: 1, side: 2, value: 1 }], 0).track)
  t.same(afterEdges(track, [{ ts: 2, side: 2, value: 1 }], 0).steps, [])
  track = afterEdges(track, [{ ts: 2, side: 2, value: 1 }, { ts: 3, side: 1, value: 1 }], 0).track
  t.same(told(afterEdges(track, [{ ts: 4, side: 2, value: 1 }], 0).steps), [{ kind: 'raise', at: 4, since: 4 }])
})
