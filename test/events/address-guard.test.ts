/** Where webhooks may go, in every form that somebody may try. */
import t from 'tap'
import type { LookupAddress } from 'node:dns'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TwinfoldError } from '../../src/core/errors.js'
import { AddressGuard, addRange, type AddressGuardOptions } from '../../src/events/address-guard.js'
import { HttpSender } from '../../src/events/http-sender.js'
import { BlockList } from 'node:net'

t.setTimeout(20_000)

type Lookup = NonNullable<AddressGuardOptions['lookup']>

/** Names with their addresses, in turn where there are several lists. */
function lookupOf (names: Readonly<Record<string, readonly (readonly string[])[]>>): Lookup {
  const turns = new Map<string, number>()
  return ((name: string, _options: unknown, done: (error: Error | null, addresses: LookupAddress[]) => void) => {
    const lists = names[name]
    if (lists === undefined) { done(Object.assign(new Error('ENOTFOUND'), { code: 'ENOTFOUND' }), []); return }
    const turn = turns.get(name) ?? 0
    turns.set(name, turn + 1)
    setImmediate(() => { done(null, lists[Math.min(turn, lists.length - 1)].map(address => ({ address, family: address.includes(':') ? 6 : 4 }))) })
  }) as unknown as Lookup
}

const names = lookupOf({
  'hooks.example.com': [['93.184.216.34', '2606:2800:220:1:248:1893:25c8:1946']],
  'inside.example.com': [['10.0.0.7']],
  'half.example.com': [['93.184.216.34', '127.0.0.1']],
  'mapped.example.com': [['::ffff:10.0.0.1']],
  'localhost': [['127.0.0.1', '::1']],
  'localhost.': [['127.0.0.1']],
  'metadata.google.internal': [['169.254.169.254']]
})

const guard = (more: Partial<AddressGuardOptions> = {}): AddressGuard => new AddressGuard({ allowPrivate: false, allow: [], lookup: names, ...more })

t.test('targets in private ranges are refused in whatever form they are written', async t => {
  const refused = [
    'http://127.0.0.1/', 'http://127.1/', 'http://0x7f.1/', 'http://0x7f000001/', 'http://2130706433/', 'http://017700000001/', 'http://0177.0.0.1/', 'http://127.0.0.1./', 'http://127.000.000.001/', 'http://①②⑦.⓪.⓪.①/', 'http://127。0。0。1/',
    'http://0/', 'http://0.0.0.0/', 'http://10.1.2.3/', 'http://172.16.0.1/', 'http://172.31.255.255/', 'http://192.168.1.1/', 'http://169.254.169.254/latest/meta-data', 'http://100.64.0.1/', 'http://100.127.255.255/', 'http://192.0.0.1/', 'http://198.18.0.1/', 'http://224.0.0.1/', 'http://255.255.255.255/', 'http://192.0.2.1/',
    'http://[::1]/', 'http://[::]/', 'http://[::ffff:127.0.0.1]/', 'http://[::ffff:7f00:1]/', 'http://[0:0:0:0:0:ffff:a00:1]/', 'http://[::127.0.0.1]/', 'http://[fe80::1]/', 'http://[fec0::1]/', 'http://[fc00::1]/', 'http://[fd12:3456::1]/', 'http://[ff02::1]/', 'http://[64:ff9b::7f00:1]/',
    'http://[64:ff9b:1::1]/', 'http://[2002:7f00:1::]/', 'http://[2001:0:7f00:1::]/', 'http://[2001:db8::1]/', 'http://[100::1]/',
    'http://localhost/', 'http://LOCALHOST/', 'http://localhost./', 'http://ｌｏｃａｌｈｏｓｔ/', 'http://metadata.google.internal/', 'http://inside.example.com/', 'http://half.example.com/', 'http://mapped.example.com/', 'https://127.0.0.1:8443/'
  ]
  for (const url of refused) await t.rejects(guard().checkUrl(url), { code: 'invalid_field', field: 'url' }, url)
})

t.test('what is no plain https or http address, or carries a password, is refused', async t => {
  const refused = ['', 'hooks.example.com', '//hooks.example.com/', 'ftp://hooks.example.com/', 'file:///etc/passwd', 'gopher://hooks.example.com', 'javascript:alert(1)', 'data:,x', 'http://', 'http://[::1', 'http://[fe80::1%25eth0]/',
    'http://user@hooks.example.com/', 'http://user:secret@hooks.example.com/', 'http://93.184.216.34@127.0.0.1/', 'http://127.0.0.1\\@hooks.example.com/', 'http://unknown.example.com/', 'http://1.2.3.4.5/', 'http://999.1.1.1/']
  for (const url of refused) await t.rejects(guard().checkUrl(url), { code: 'invalid_field' }, url)
})

t.test('public targets pass, normalised', async t => {
  t.equal(await guard().checkUrl('HTTPS://Hooks.Example.com:443/a?b=c#d'), 'https://hooks.example.com/a?b=c')
  for (const url of ['http://93.184.216.34/', 'http://172.32.0.1/', 'http://100.128.0.1/', 'http://[2606:2800:220:1::1]/', 'http://[::ffff:93.184.216.34]/', 'https://8.8.8.8:8443/']) t.ok(await guard().checkUrl(url), url)
})

t.test('a setting opens all private ranges, or some', async t => {
  t.ok(await guard({ allowPrivate: true }).checkUrl('http://127.0.0.1/'))
  const some = guard({ allow: ['10.0.0.0/24', 'fd00::/8', '192.168.1.5'] })
  for (const [url, ok] of [['http://10.0.0.9/', true], ['http://10.0.1.9/', false], ['http://[::ffff:10.0.0.9]/', true], ['http://[fd01::1]/', true], ['http://[fc01::1]/', false], ['http://192.168.1.5/', true], ['http://192.168.1.6/', false], ['http://inside.example.com/', true], ['http://half.example.com/', false]] as const) {
    const passed = await some.checkUrl(url).then(() => true, (error: TwinfoldError) => error.code !== 'invalid_field')
    t.equal(passed, ok, url)
  }
  for (const range of ['10.0.0.0/33', 'x', '10.0.0.0/8/8', '::/129', '10.0.0.0/a']) t.throws(() => { addRange(new BlockList(), range) }, range)
})

t.test('a name that led outside when the webhook was made and leads inside now is not connected to', async t => {
  let asked = 0
  const server = createServer((_request, response) => { asked++; response.end() })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const { port } = server.address() as AddressInfo
  const rebinding = lookupOf({ 'rebind.example.com': [['93.184.216.34'], ['127.0.0.1']] })
  const strict = guard({ lookup: rebinding })
  const sender = new HttpSender({ guard: strict, timeoutMs: 2000, nowMs: () => Date.now() })
  t.teardown(() => { sender.close() })
  const url = await strict.checkUrl(`http://rebind.example.com:${port}/`)
  t.same(await sender.post('k', new URL(url), {}, Buffer.from('{}')), { kind: 'fault', reason: 'the host leads to an address that is not public' })
  t.same(await sender.post('k', new URL(`http://127.0.0.1:${port}/`), {}, Buffer.from('{}')), { kind: 'fault', reason: 'the address is not public' }, 'nor a literal that was stored before the setting changed')
  t.equal(asked, 0)
  const open = new HttpSender({ guard: guard({ allow: ['127.0.0.1'], lookup: rebinding }), timeoutMs: 2000, nowMs: () => Date.now() })
  t.teardown(() => { open.close() })
  t.match(await open.post('k', new URL(url), {}, Buffer.from('{}')), { kind: 'status', status: 200 }, 'where it is allowed it goes there')
})

t.test('an answer without end is cut, its status counts', async t => {
  const server = createServer((_request, response) => {
    response.writeHead(200)
    const more = setInterval(() => { response.write(Buffer.alloc(64 * 1024)) }, 1)
    response.on('close', () => { clearInterval(more) })
    response.on('error', () => {})
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const sender = new HttpSender({ guard: guard({ allowPrivate: true }), timeoutMs: 5000, nowMs: () => Date.now() })
  t.teardown(() => { sender.close() })
  t.match(await sender.post('k', new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`), {}, Buffer.from('{}')), { kind: 'status', status: 200 })
})
