import t from 'tap'
import { timestampUsMax } from '../../src/core/limits.js'
import { shardOf } from '../../src/core/ids.js'
import { usPerMinute } from '../../src/core/reading.js'
import { bucketWidthsMinutes } from '../../src/series/partition-plan.js'
import { after, readTime, rangeOf, writeTime, writeTimeDescending } from '../../src/store/embedded/key-bytes.js'
import {
  bucketPrefix, chunkKey, chunkOwner, chunksSince, chunkTail, pendingKey, readPendingKey, readSlabKey, sealedKey, sealedTail, seenDay, seenKey, shardPrefix, slabKey, slabMinutes, tables
} from '../../src/store/embedded/keys.js'
import { newSeed, randomFrom } from './store-fixtures.js'

const idCharacters = 'ABCXYZabcxyz0189._:@-'

function randomParts (random: () => number) {
  const integer = (below: number): number => Math.floor(random() * below)
  const id = (characters: string): string => Array.from({ length: 1 + integer(6) }, () => characters[integer(characters.length)]).join('')
  const widthMinutes = bucketWidthsMinutes[integer(4)]
  const maxTs = integer(2) === 0 ? integer(1e6) : Math.floor(random() * timestampUsMax)
  return {
    tenant: id('ab_-'), device: id(idCharacters), salt: integer(64), part: integer(2 ** 32), minTs: Math.floor(random() * maxTs), maxTs,
    bucket: { widthMinutes, start: Math.floor(maxTs / (widthMinutes * usPerMinute)) * widthMinutes * usPerMinute },
    slice: { journalId: Array.from({ length: 16 }, () => integer(16).toString(16)).join(''), mark: Math.floor(random() * timestampUsMax) }
  }
}

t.test('numbers come back, and their bytes are in their order', async t => {
  const seed = newSeed()
  const random = randomFrom(seed)
  const values = [0, 1, 255, 256, 65_535, 65_536, 2 ** 24 - 1, 2 ** 24, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40, 2 ** 48 - 1, 2 ** 48, timestampUsMax - 1, timestampUsMax]
  for (let i = 0; i < 500; i++) values.push(Math.floor(random() * 2 ** (1 + random() * 52)))
  values.sort((a, b) => a - b)
  let wrong = 0
  let before: { ascending: Buffer, descending: Buffer } | null = null
  for (const value of values) {
    const ascending = Buffer.alloc(7)
    const descending = Buffer.alloc(7)
    writeTime(ascending, 0, value)
    writeTimeDescending(descending, 0, value)
    if (readTime(ascending, 0) !== value) wrong++
    if (before !== null && (before.ascending.compare(ascending) > 0 || before.descending.compare(descending) < 0)) wrong++
    before = { ascending, descending }
  }
  t.equal(wrong, 0, `seed ${seed}`)
})

t.test('every key gives back what it was made of', async t => {
  const seed = newSeed()
  const random = randomFrom(seed)
  for (let i = 0; i < 300; i++) {
    const parts = randomParts(random)
    const key = chunkKey(parts)
    const { minTs, maxTs, slice, part, device, bucket, salt, tenant } = parts
    t.strictSame([chunkTail(key), chunkOwner(key)], [{ minTs, maxTs, slice, part }, { device, bucket, slice }], `seed ${seed}`)
    for (const prefix of [bucketPrefix(tables.chunk, tenant, device, bucket), bucketPrefix(tables.chunk, tenant, device, bucket, salt), shardPrefix(tenant, shardOf(device))]) {
      t.ok(key.subarray(0, prefix.length).equals(prefix), `seed ${seed}`)
    }
    const slab = { tenant, shard: salt, minute: Math.floor(maxTs / usPerMinute) * usPerMinute, slice }
    t.strictSame(readSlabKey(slabKey(slab)), slab, `seed ${seed}`)
    t.equal(seenDay(seenKey(tenant, device, maxTs, Buffer.alloc(8, 0xff))), maxTs, `seed ${seed}`)
    t.strictSame(sealedTail(sealedKey(bucketPrefix(tables.sealed, tenant, device, bucket), minTs, maxTs, part)), { epoch: minTs, sequence: maxTs, index: part })
    t.strictSame(readPendingKey(pendingKey(36_500, maxTs, slice)), { retentionDays: 36_500, period: maxTs, slice })
  }
})

t.test('a bucket\'s range holds its own keys and no others', async t => {
  const seed = newSeed()
  const random = randomFrom(seed)
  const all = Array.from({ length: 250 }, () => randomParts(random))
  let wrong = 0
  for (const owner of all) {
    const range = rangeOf(bucketPrefix(tables.chunk, owner.tenant, owner.device, owner.bucket, owner.salt))
    const until = chunksSince(range.gte, owner.maxTs)
    for (const other of all) {
      const key = chunkKey(other)
      const same = other.tenant === owner.tenant && other.device === owner.device && other.salt === owner.salt && other.bucket.start === owner.bucket.start && other.bucket.widthMinutes === owner.bucket.widthMinutes
      if ((key.compare(range.gte) >= 0 && key.compare(range.lt) < 0) !== same) wrong++
      if (same && (key.compare(until) < 0) !== (other.maxTs >= owner.maxTs)) wrong++
    }
  }
  t.equal(wrong, 0, `seed ${seed}`)
})

t.test('a shard\'s minutes hold its own slabs and no others', async t => {
  const range = slabMinutes('a', 5, 1200 * usPerMinute, 1209 * usPerMinute)
  const inside = (tenant: string, shard: number, minute: number): boolean => {
    const key = slabKey({ tenant, shard, minute: minute * usPerMinute, slice: { journalId: 'ffffffffffffffff', mark: timestampUsMax } })
    return key.compare(range.gte) >= 0 && key.compare(range.lt) < 0
  }
  t.strictSame([inside('a', 5, 1200), inside('a', 5, 1209)], [true, true])
  t.strictSame([inside('a', 5, 1199), inside('a', 5, 1210), inside('a', 4, 1205), inside('a', 6, 1205), inside('ab', 5, 1205), inside('-', 5, 1205)], [false, false, false, false, false, false])
})

t.test('the end of a prefix is above all that begins with it', async t => {
  t.strictSame(after(Buffer.from([1, 2])), Buffer.from([1, 3]))
  t.strictSame(after(Buffer.from([1, 0xff, 0xff])), Buffer.from([2]))
})

t.test('a text that could reach into another key is refused', async t => {
  for (const device of ['a\0b', 'a\u0100', 'ł', 'a\n']) {
    t.throws(() => chunkKey({ ...randomParts(Math.random), device }), { code: 'invalid_request' }, JSON.stringify(device))
  }
  for (const journalId of ['', 'xyz', '0123456789abcdeg', '0123456789abcdef0', '0123456789ABCDEF']) {
    t.throws(() => pendingKey(1, 1, { journalId, mark: 1 }), { code: 'invalid_request' }, journalId)
  }
})
