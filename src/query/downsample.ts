/** Fewer points that look the same in a chart. Pure. */

export interface ShapePoints { readonly ts: Float64Array, readonly values: Float64Array }

/**
 * Largest triangle three buckets (S. Steinarsson, Downsampling Time Series for Visual Representation, 2013): the first and the last
 * point, and of each bucket between them the point that spans the largest triangle with the point chosen before and the next
 * bucket's mean. A value that is no finite number is never chosen.
 */
export function lttb (points: ShapePoints, pointsMax: number): ShapePoints {
  const { ts, values } = finite(points)
  const { length } = ts
  if (length <= pointsMax || pointsMax < 3) return pointsMax < 3 ? firstAndLast({ ts, values }, pointsMax) : { ts, values }
  const chosenTs = new Float64Array(pointsMax)
  const chosen = new Float64Array(pointsMax)
  const every = (length - 2) / (pointsMax - 2)
  chosenTs[0] = ts[0]
  chosen[0] = values[0]
  let last = 0
  for (let bucket = 0; bucket < pointsMax - 2; bucket++) {
    const from = Math.floor(bucket * every) + 1
    const to = Math.floor((bucket + 1) * every) + 1
    const nextTo = Math.min(Math.floor((bucket + 2) * every) + 1, length)
    let meanTs = 0
    let mean = 0
    for (let i = to; i < nextTo; i++) {
      meanTs += ts[i] - ts[0]
      mean += values[i]
    }
    meanTs = meanTs / (nextTo - to) + ts[0]
    mean /= nextTo - to
    let best = from
    let largest = -1
    for (let i = from; i < to; i++) {
      const area = Math.abs((ts[last] - meanTs) * (values[i] - values[last]) - (ts[last] - ts[i]) * (mean - values[last]))
      if (area > largest) {
        largest = area
        best = i
      }
    }
    chosenTs[bucket + 1] = ts[best]
    chosen[bucket + 1] = values[best]
    last = best
  }
  chosenTs[pointsMax - 1] = ts[length - 1]
  chosen[pointsMax - 1] = values[length - 1]
  return { ts: chosenTs, values: chosen }
}

/** The least and the greatest value of each of pointsMax / 2 equal stretches of [fromTs, toTs), in order of time. */
export function minMax (points: ShapePoints, pointsMax: number, fromTs: number, toTs: number): ShapePoints {
  const { ts, values } = finite(points)
  if (ts.length <= pointsMax) return { ts, values }
  const stretches = Math.max(1, Math.floor(pointsMax / 2))
  const chosen: number[] = []
  for (let i = 0; i < ts.length;) {
    const stretch = Math.floor((ts[i] - fromTs) * stretches / (toTs - fromTs))
    let least = i
    let greatest = i
    for (; i < ts.length && Math.floor((ts[i] - fromTs) * stretches / (toTs - fromTs)) === stretch; i++) {
      if (values[i] < values[least]) least = i
      if (values[i] > values[greatest]) greatest = i
    }
    chosen.push(...least === greatest ? [least] : [Math.min(least, greatest), Math.max(least, greatest)])
  }
  return { ts: Float64Array.from(chosen, i => ts[i]), values: Float64Array.from(chosen, i => values[i]) }
}

function firstAndLast ({ ts, values }: ShapePoints, count: number): ShapePoints {
  const at = ts.length === 0 ? [] : count < 2 || ts.length === 1 ? [0] : [0, ts.length - 1]
  return { ts: Float64Array.from(at, i => ts[i]), values: Float64Array.from(at, i => values[i]) }
}

function finite ({ ts, values }: ShapePoints): ShapePoints {
  if (values.every(Number.isFinite)) return { ts, values }
  const kept = Uint32Array.from(values.keys()).filter(i => Number.isFinite(values[i]))
  return { ts: Float64Array.from(kept, i => ts[i]), values: Float64Array.from(kept, i => values[i]) }
}
