/** Medians of rounds, and ratios taken pair by pair: on a shared machine neighbours in time are comparable, means are not. */

/** @throws RangeError when there are no values */
export function median (values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('there is no median of nothing')
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Median of ours[i] / theirs[i], with the least and the greatest. */
export function pairedRatio (ours: readonly number[], theirs: readonly number[]): { median: number, least: number, greatest: number } {
  const ratios = ours.map((value, i) => value / theirs[i])
  return { median: median(ratios), least: Math.min(...ratios), greatest: Math.max(...ratios) }
}
