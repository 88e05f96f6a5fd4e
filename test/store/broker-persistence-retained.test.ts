import t from 'tap'
import { matches, planFilter, SubscriptionIndex } from '../../src/store/broker/filter.js'
import type { BrokerPacket } from '../../src/store/broker/types.js'
import { all, message, open, payloads, randomFrom, temporaryDirectory } from './broker-persistence-fixture.js'

/** MQTT 3.1.1 section 4.7 as plainly as it can be said. */
function matchesPlainly (filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false
  const filterLevels = filter.split('/')
  const levels = topic.split('/')
  for (let i = 0; i < filterLevels.length; i++) {
    if (filterLevels[i] === '#') return i <= levels.length
    if (i >= levels.length || (filterLevels[i] !== '+' && filterLevels[i] !== levels[i])) return false
  }
  return filterLevels.length === levels.length
}

const words = ['', 'a', 'b', 'ab', '$x', 'ü', '\u{1f600}', '0']
function randomPath (random: (below: number) => number, wildcards: boolean): string {
  const levels = Array.from({ length: 1 + random(4) }, () => words[random(words.length)])
  if (wildcards) {
    for (let i = 0; i < levels.length; i++) if (random(3) === 0) levels[i] = '+'
    if (random(3) === 0) levels.push('#')
  }
  return levels.join('/')
}

void t.test('filters match exactly as MQTT 3.1.1 section 4.7 says, alone and in the index', async (t) => {
  const seed = Date.now() % 2 ** 31
  const random = randomFrom(seed)
  for (const [filter, topic, expected] of [
    ['a/#', 'a', true], ['a/#', 'a/b/c', true], ['#', 'a', true], ['#', '$SYS/a', false], ['+/a', '$SYS/a', false], ['$SYS/#', '$SYS/a', true],
    ['a/+', 'a', false], ['a/+', 'a/', true], ['+', '', true], ['+/+', '/', true], ['/+', '/a', true], ['+', '/a', false], ['a/+/#', 'a', false],
    ['a/+/#', 'a/b', true], ['ab', 'a', false], ['a', 'ab', false], ['a/b', 'a/b/', false]
  ] as const) {
    t.equal(matches(filter.split('/'), topic), expected, `${filter} and ${topic}`)
    t.equal(matchesPlainly(filter, topic), expected, `the reference agrees on ${filter} and ${topic}`)
  }
  const index = new SubscriptionIndex()
  const filters = new Map<string, string>()
  let wrong: string | null = null
  for (let i = 0; i < 4000 && wrong === null; i++) {
    const filter = randomPath(random, true)
    const clientId = `c${random(5)}`
    if (random(3) === 0) {
      index.remove(clientId, filter)
      filters.delete(`${clientId} ${filter}`)
    } else {
      index.add(clientId, filter, { qos: 1 })
      filters.set(`${clientId} ${filter}`, filter)
    }
    const topic = randomPath(random, false)
    const expected = [...filters].filter(([, filter]) => matchesPlainly(filter, topic)).map(([key]) => key).sort()
    const found = index.match(topic).map(({ clientId, topic }) => `${clientId} ${topic}`).sort()
    if (matches(filter.split('/'), topic) !== matchesPlainly(filter, topic)) wrong = `${filter} against ${topic}`
    if (JSON.stringify(found) !== JSON.stringify(expected) || index.size !== filters.size) wrong = `index for ${topic}: ${found.join()} instead of ${expected.join()}`
  }
  t.equal(wrong, null, `seed ${seed}`)
  for (const key of [...filters.keys()]) index.remove(key.slice(0, 2), key.slice(3))
  t.equal(index.size, 0, 'everything can be removed again')
  t.same(index.match('a/b'), [])
})

void t.test('a look-up finds exactly the retained messages that match, whatever the topics are', async (t) => {
  const seed = Date.now() % 2 ** 31
  const random = randomFrom(seed)
  const directory = temporaryDirectory(t)
  let persistence = await open(directory)
  const retained = new Map<string, string>()
  const hostile = ['acme/\u0000/x', 'acme/\uffff', 'acme/\u007f', `acme/${'x'.repeat(5000)}`, 'acme//', 'acme', 'acmeX/a', 'acme0', 'acme/__proto__', '']
  for (let i = 0; i < 1500; i++) {
    const topic = i < hostile.length ? hostile[i] : `${random(2) === 0 ? 'acme' : 'other'}/${randomPath(random, false)}`
    const payload = random(4) === 0 ? '' : `p${i}`
    if (payload === '') retained.delete(topic)
    else retained.set(topic, payload)
    const stored = persistence.storeRetained(message(topic, payload, 1, true))
    if (random(2) === 0) await stored
  }
  await persistence.storeRetained(message('last', '1', 1, true))
  for (const round of ['as stored', 'after reopening']) {
    if (round !== 'as stored') {
      await persistence.close()
      persistence = await open(directory)
    }
    t.equal(persistence.stats.retained, retained.size + 1, `counted right ${round}, seed ${seed}`)
    for (let i = 0; i < 150; i++) {
      const filter = `${['acme', 'other', '+'][random(3)]}/${randomPath(random, true)}`
      const expected = [...retained].filter(([topic]) => matchesPlainly(filter, topic)).map(([topic, payload]) => `${topic}=${payload}`).sort()
      const found = (await all<BrokerPacket>(persistence.createRetainedStream(filter))).map(({ topic, payload }) => `${topic}=${String(payload)}`).sort()
      if (JSON.stringify(found) !== JSON.stringify(expected)) t.same(found, expected, `${filter} ${round}, seed ${seed}`)
    }
  }
  await persistence.close()
})

void t.test('a look-up visits only topics that begin with the literal prefix of its filter', async (t) => {
  const persistence = await open(temporaryDirectory(t))
  const stored = []
  for (let device = 0; device < 2000; device++) {
    for (const what of ['state', 'place']) stored.push(persistence.storeRetained(message(`acme/devices/d${device}/${what}`, 'x', 1, true)))
  }
  stored.push(persistence.storeRetained(message('acme/devices', 'parent', 1, true)))
  await Promise.all(stored)
  const visited = async (filter: string): Promise<[found: number, visited: number]> => {
    const before = persistence.stats.retainedRowsVisited
    const found = await all(persistence.createRetainedStream(filter))
    return [found.length, persistence.stats.retainedRowsVisited - before]
  }
  t.same(await visited('acme/devices/d77/state'), [1, 1])
  t.same(await visited('acme/devices/d77/+'), [2, 2])
  t.same(await visited('acme/devices/d77/#'), [2, 3], 'and asks for the parent')
  t.same(await visited('acme/devices/none/#'), [0, 1])
  t.same(await visited('other/#'), [0, 1])
  t.same(await visited('acme/devices/+/state'), [2000, 4000])
  t.same(await visited('acme/devices/#'), [4001, 4001])
  t.same(planFilter('acme/a/b/+/c').prefix, 'acme/a/b/')
  await persistence.close()
})

void t.test('retained messages are bounded per tenant in number and bytes, and no stale value stays', async (t) => {
  const directory = temporaryDirectory(t)
  const limits = { retainedPerTenantMax: 3, retainedBytesPerTenantMax: 1000 }
  const refused: string[] = []
  const onLimit = (kind: string, subject: string): void => { refused.push(`${kind} ${subject}`) }
  let persistence = await open(directory, { limits, onLimit })
  // One after the other: of those stored side by side, the first to be looked up gets the room.
  for (const name of ['a', 'b', 'c', 'd', 'e']) await persistence.storeRetained(message(`acme/${name}`, name, 1, true))
  await persistence.storeRetained(message('other/a', 'o', 1, true))
  t.same(payloads(await all(persistence.createRetainedStream('acme/#'))), ['a', 'b', 'c'])
  t.same(refused, ['retained acme', 'retained acme'])
  await persistence.storeRetained(message('acme/b', 'b2', 1, true))
  t.same(payloads(await all(persistence.createRetainedStream('acme/#'))), ['a', 'b2', 'c'], 'a replacement is no further message')

  await persistence.storeRetained(message('acme/b', 'x'.repeat(2000), 1, true))
  t.same(payloads(await all(persistence.createRetainedStream('acme/#'))), ['a', 'c'], 'too large: the old value goes')
  t.equal(refused.pop(), 'retained_bytes acme')
  await persistence.close()

  persistence = await open(directory, { limits, onLimit })
  await persistence.storeRetained(message('acme/f', 'f', 1, true))
  await persistence.storeRetained(message('acme/g', 'g', 1, true))
  t.same(payloads(await all(persistence.createRetainedStream('acme/#'))), ['a', 'c', 'f'], 'the count survives reopening')
  for (const name of ['a', 'c', 'f', 'g']) await persistence.storeRetained(message(`acme/${name}`, '', 1, true))
  t.match(persistence.stats, { retained: 1, refused: { retained: 1, retained_bytes: 0 } })
  await persistence.storeRetained(message('other/a', '', 1, true))
  t.match(persistence.stats, { retained: 0, retainedBytes: 0 }, 'what is removed is given back')
  await persistence.close()
})

void t.test('changes of one topic take effect in the order of the calls, and stores resolve in that order', async (t) => {
  const persistence = await open(temporaryDirectory(t))
  const finished: number[] = []
  const stores = Array.from({ length: 200 }, async (_, i) => {
    await persistence.storeRetained(message(`acme/${i % 7}`, i % 5 === 0 ? '' : String(i), 1, true))
    finished.push(i)
  })
  await Promise.all(stores)
  t.same(finished, finished.map((_, i) => i))
  const expected = [196, 197, 198, 199, 193, 194, 195].filter((i) => i % 5 !== 0).map(String)
  t.same(payloads(await all(persistence.createRetainedStream('acme/+'))).sort(), expected.sort())
  t.equal(persistence.stats.retained, expected.length)
  await persistence.close()
})

void t.test('a slow reader of many large messages does not make them all wait in memory', async (t) => {
  const persistence = await open(temporaryDirectory(t))
  for (let i = 0; i < 200; i++) await persistence.storeRetained(message(`acme/${i}`, Buffer.alloc(10_000, i), 1, true))
  const before = persistence.stats.retainedRowsVisited
  const stream = persistence.createRetainedStreamCombi(['acme/1/#', 'acme/#'])
  let read = 0
  for await (const _ of stream) if (++read === 3) break
  t.equal(read, 3)
  t.ok(persistence.stats.retainedRowsVisited - before <= 202, 'an abandoned look-up stops')
  await persistence.close()
})
