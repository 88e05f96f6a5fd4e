import fc from 'fast-check'
import t from 'tap'
import { formatTime } from '../../src/core/json-values.js'

const isoOf = (us: number): string => {
  const iso = new Date(Math.floor(us / 1000)).toISOString()
  return us % 1000 === 0 ? `"${iso}"` : `"${iso.slice(0, -1)}${String(us % 1000).padStart(3, '0')}Z"`
}

void t.test('times are written as the platform writes them, every day of three centuries and any microsecond', async t => {
  for (let day = 0; day < 110_000; day++) {
    const us = day * 86_400e6 + (day * 7919 % 86_400) * 1e6
    if (formatTime(us, 'iso') !== isoOf(us)) t.equal(formatTime(us, 'iso'), isoOf(us))
  }
  fc.assert(fc.property(fc.integer({ min: 0, max: 9_007_199_254_740_991 }), us => formatTime(us, 'iso') === isoOf(us)), { numRuns: 5000 })
  t.equal(formatTime(1_700_000_000_000_000, 'iso'), '"2023-11-14T22:13:20.000Z"')
  t.equal(formatTime(1_700_000_000_000_001, 'ms'), '1700000000000.001')
})
