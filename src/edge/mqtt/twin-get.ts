/**
 * `twin/get` and `twin/{name}/get`: acknowledged at once and answered to the connection that asked, on `…/get/accepted` or
 * `…/get/rejected`, at the QoS that its filters grant, else 0. At most `questionsMax` of a connection are looked up at a time; one more
 * is rejected with the code `throttled`.
 */
import type { MqttConnection } from './mqtt-connection.js'
import type { MqttContext } from './mqtt-context.js'
import { grantedQos } from './delivery.js'
import { Downstream } from './downstream.js'
import type { TopicEntry } from './topic-directory.js'

const questionsMax = 8

const rejection = (code: string, detail: string): { readonly accepted: boolean, readonly body: string } => ({ accepted: false, body: JSON.stringify({ code, detail }) })

export function askTwin (context: MqttContext, connection: MqttConnection, { device, twinName }: TopicEntry): void {
  const { questions } = context
  const answer = (outcome: { readonly accepted: boolean, readonly body: string }): void => {
    if (connection.destroyed) return
    const topic = `devices/${device}/twin/${twinName === '' ? '' : `${twinName}/`}get/${outcome.accepted ? 'accepted' : 'rejected'}`
    const granted = connection.client === null ? -1 : grantedQos(connection.client, connection.brokerPrefix + topic)
    void (connection.downstream ??= new Downstream(connection)).send(topic, Buffer.from(outcome.body), granted > 0 ? 1 : 0)
  }
  if (questions === null) return answer(rejection('not_ready', 'this server answers no questions about twins'))
  if (connection.questions >= questionsMax) return answer(rejection('throttled', `at most ${questionsMax} questions of a connection are answered at a time`))
  connection.questions++
  const done = (outcome: { readonly accepted: boolean, readonly body: string }): void => {
    connection.questions--
    answer(outcome)
  }
  questions.answer(connection.tenant, device, twinName).then(done, (error: unknown) => {
    context.log.warn({ tenant: connection.tenant, device, error: String(error) }, 'a question about a twin was not answered')
    done(rejection('internal', 'an unexpected fault'))
  })
}
