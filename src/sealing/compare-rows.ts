/** What differs between a stored tier row and a recomputed one: nothing where their bytes are equal. Pure. */
import { decodeSketchRow, decodeTierRow } from '../series/tiers/index.js'
import type { TierKind } from '../store/tier-store.js'

export interface RowDifference {
  readonly metric: string
  /** µs: start of the window; absent where the whole row is meant. */
  readonly window?: number
  readonly field: string
  readonly stored: string
  readonly recomputed: string
}

type Fields = ReadonlyMap<string, RowDifference>

/** Differences named of one row; more are not worth reading. */
const namedMax = 20

export function compareRows (kind: TierKind, stored: Uint8Array, recomputed: Uint8Array): RowDifference[] {
  if (Buffer.compare(stored, recomputed) === 0) return []
  const differences: RowDifference[] = []
  try {
    const before = fieldsOf(kind, stored)
    const after = fieldsOf(kind, recomputed)
    for (const [name, field] of after) {
      const found = before.get(name)
      if (found?.recomputed !== field.recomputed) differences.push({ ...field, stored: found?.recomputed ?? 'absent' })
    }
    for (const [name, field] of before) if (!after.has(name)) differences.push({ ...field, stored: field.recomputed, recomputed: 'absent' })
  } catch (error) {
    return [{ metric: '', field: 'row', stored: `cannot be decoded: ${(error as Error).message}`, recomputed: '' }]
  }
  if (differences.length === 0) differences.push({ metric: '', field: 'encoding', stored: `${stored.length} bytes`, recomputed: `${recomputed.length} bytes` })
  return differences.slice(0, namedMax)
}

/** Every value of a row under its name. */
function fieldsOf (kind: TierKind, bytes: Uint8Array): Fields {
  const fields = new Map<string, RowDifference>()
  const add = (metric: string, window: number, field: string, value: unknown): void => {
    fields.set(`${metric}\0${window}\0${field}`, { metric, window, field, stored: '', recomputed: textOf(value) })
  }
  if (kind === 'q1h' || kind === 'q1d') {
    for (const { metric, starts, sketches } of decodeSketchRow(bytes)) {
      sketches.forEach((sketch, i) => {
        add(metric, starts[i], 'sketch count', sketch.count)
        for (const q of [0, 0.01, 0.5, 0.99, 1]) add(metric, starts[i], `sketch ${q}`, sketch.quantile(q))
      })
    }
    return fields
  }
  for (const series of decodeTierRow(bytes)) {
    for (const [field, values] of Object.entries(series)) {
      if (field === 'metric' || field === 'type' || field === 'starts') continue
      series.starts.forEach((start, i) => { add(series.metric, start, `${series.type} ${field}`, (values as ArrayLike<unknown>)[i]) })
    }
  }
  return fields
}

function textOf (value: unknown): string {
  if (value instanceof Map) return JSON.stringify([...value as Map<string, number>])
  return Object.is(value, -0) ? '-0' : String(value)
}
