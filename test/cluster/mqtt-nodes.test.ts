/** Brokers of several nodes as one: subscriptions, retained messages, sessions and their takeover, wills, tenants. */
import t from 'tap'
import { connectPacket, disconnect, packetsIn, puback, pubcomp, publish, publishesIn, pubrec, pubrel, subscribe, until, type RawClient } from '../edge/mqtt-harness.js'
import { services, skipWithout } from '../support/services.js'
import { nodesOn, type Node } from './mqtt-nodes-support.js'

const url = services().redis?.url ?? ''

async function subscribed (client: RawClient, ...filters: readonly (readonly [string, number])[]): Promise<void> {
  client.send(subscribe(1, ...filters))
  const answer = await client.next()
  if (answer[0] !== 0x90) throw new Error(`SUBACK expected, got ${answer.toString('hex')}`)
}

const application = (node: Node, tenant = 'acme'): string => node.registry.credential('application', tenant)

t.test('a message reaches the subscribers of other nodes, at every QoS and in order', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b, c] = [await nodes.start(), await nodes.start(), await nodes.start()]
  const here = await a.client({ secret: application(a), clientId: 'here' })
  const there = await b.client({ secret: application(b), clientId: 'there' })
  const stranger = await b.client({ secret: application(b, 'globex'), clientId: 'there' })
  const sender = await c.client({ secret: application(c), clientId: 'sender' })
  await subscribed(here, ['news/#', 1])
  await subscribed(there, ['news/+', 1])
  await subscribed(stranger, ['#', 1])
  for (let i = 0; i < 50; i++) sender.send(publish('news/1', `q1-${i}`, { qos: 1, id: i + 1 }), publish('news/1', `q0-${i}`))
  for (const client of [here, there]) {
    await until(() => client.packets.length >= 100)
    const payloads = publishesIn(Buffer.concat(client.packets)).map(each => each.payload)
    for (const kind of ['q1', 'q0']) t.same(payloads.filter(each => each.startsWith(kind)), Array.from({ length: 50 }, (_, i) => `${kind}-${i}`), kind)
  }
  await until(() => sender.packets.length === 50)
  t.same(await stranger.settle(), [], 'nothing of it reaches another tenant')
})
