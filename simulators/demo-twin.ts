/** How a plant of the demo behaves as a twin: it says what it is, does what is desired of it a second later, and answers commands. */
import type { MqttClient } from 'mqtt'

const adoptAfterMs = 1000
const workMs = 300

/** Resolves when the plant has subscribed and said what it is. */
export async function behaveAsTwin (client: MqttClient, id: string): Promise<void> {
  client.on('message', (topic, payload) => {
    const command = /\/commands\/([^/]+)\/request\/([^/]+)$/.exec(topic)
    if (topic.endsWith('/twin/delta')) adopt(client, payload)
    else if (command !== null) obey(client, id, command[1], command[2])
  })
  await client.subscribeAsync([`devices/${id}/twin/delta`, `devices/${id}/commands/+/request/+`], { qos: 1 })
  await client.publishAsync('twin/reported', JSON.stringify({ firmware: '1.4.2', pump: { mode: 'auto', speed: 60 } }), { qos: 1 })
}

/** What differs from desired is reported as done. */
function adopt (client: MqttClient, payload: Buffer): void {
  const { state } = JSON.parse(payload.toString()) as { readonly state: object }
  setTimeout(() => { client.publish('twin/reported', JSON.stringify(state), { qos: 1 }, () => {}) }, adoptAfterMs).unref()
}

/** Known commands succeed, others fail: either is an answer. */
function obey (client: MqttClient, id: string, name: string, commandId: string): void {
  const answer = name === 'self-test' ? { status: 'succeeded', payload: { collectors: 'ok', tank: 'ok' } } : { status: 'failed', payload: { error: `${name} is not known to this plant` } }
  setTimeout(() => { client.publish(`devices/${id}/commands/${name}/response/${commandId}`, JSON.stringify(answer), { qos: 1 }, () => {}) }, workMs).unref()
}
