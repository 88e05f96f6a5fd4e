import t from 'tap'
import { usPerDay } from '../../src/core/reading.js'
import { GrowthCounter } from '../../src/pipeline/growth-counter.js'

const chunk = (device: string, widthMinutes: 60 | 1440 = 1440, start = 0) => ({ tenant: 'a', device, bucket: { start, widthMinutes } })

void t.test('an open bucket is named when much has come to it, and when that has doubled', async t => {
  const counter = new GrowthCounter()
  const named: number[] = []
  for (let i = 1; i <= 600; i++) if (counter.note([chunk('d'), chunk('narrow', 60), chunk('past', 1440, -usPerDay)], 1).some(({ device }) => device !== 'd' ? t.fail(device) : true)) named.push(i)
  t.same(named, [64, 128, 256, 512])
})

void t.test('it remembers so many buckets and forgets those left longest', async t => {
  const counter = new GrowthCounter({ bucketsMax: 100 })
  for (let i = 0; i < 63; i++) counter.note([chunk('d')], 1)
  for (let i = 0; i < 100; i++) counter.note([chunk(`other${i}`)], 1)
  t.same(counter.note([chunk('d')], 1), [], 'forgotten')
  for (let i = 0; i < 62; i++) counter.note([chunk('d')], 1)
  t.same(counter.note([chunk('d')], 1), [chunk('d')])
})
