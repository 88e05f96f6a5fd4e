/**
 * Answers of devices from the journal, in its order: each is applied once, whatever is repeated (the book keeps the highest position
 * applied per journal). An answer to a command that is not there, was never sent, or is another device's is refused: the applier keeps
 * it in the dead letters.
 */
import type { DeviceMessage, MessageHandler, MessageOutcome } from '../inlet/device-message.js'
import type { BookKeeper } from './book-keeper.js'
import { isAnswerAddress, parseAnswer, parseAnswerPath } from './answer.js'

export interface AnswerStats { answered: number, repeated: number, refused: number }

export class CommandAnswers implements MessageHandler {
  readonly stats: AnswerStats = { answered: 0, repeated: 0, refused: 0 }
  readonly #keeper: BookKeeper
  readonly #shared: boolean

  /** @param shared other nodes write the same store: what was committed may not have been told */
  constructor (keeper: BookKeeper, shared: boolean) {
    this.#keeper = keeper
    this.#shared = shared
  }

  takes (path: string): boolean {
    return parseAnswerPath(path) !== null
  }

  async apply (messages: readonly DeviceMessage[]): Promise<readonly MessageOutcome[]> {
    // Of one device they wait in one queue, in order, and share a commit.
    const settled = await Promise.allSettled(messages.map(async message => await this.#apply(message)))
    const failed = settled.find(outcome => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    if (this.#shared) await this.#tellAgain(messages)
    return settled.map(outcome => (outcome as PromiseFulfilledResult<MessageOutcome>).value)
  }

  async #apply (message: DeviceMessage): Promise<MessageOutcome> {
    const { tenant, device, journalId, position, stamp } = message
    const address = parseAnswerPath(message.path)
    if (address === null || !isAnswerAddress(address)) return this.#refuse('not_found', 'the topic names no command')
    const answer = parseAnswer(message.payload)
    if (answer.kind === 'refused') return this.#refuse(answer.code, answer.detail)
    const { name, id } = address
    const { kind: _kind, ...said } = answer
    return await this.#keeper.apply<MessageOutcome>(tenant, device, {
      ids: [id],
      sync: false,
      journaled: true,
      run: draft => {
        if (draft.positionOf(journalId) >= position) {
          this.stats.repeated++
          return { kind: 'unchanged' }
        }
        const command = draft.command(id)
        if (command === undefined || command.name !== name) return this.#refuse('not_found', `device '${device}' has no command '${name}' with id ${id}`)
        // A stamp that runs ahead of the wall clock does not make an answer late.
        const reduced = draft.change(id, { kind: 'answered', at: Math.min(stamp, draft.nowUs), ...said })
        if (reduced.kind === 'refused') return this.#refuse('invalid_request', `the answer to command ${id} is not taken: ${reduced.why}`)
        draft.applied(journalId, position)
        this.stats.answered++
        return { kind: 'applied' }
      }
    })
  }

  #refuse (code: string, detail: string): MessageOutcome {
    this.stats.refused++
    return { kind: 'refused', code, detail }
  }

  async #tellAgain (messages: readonly DeviceMessage[]): Promise<void> {
    const devices = new Map(messages.filter(message => message.replayed).map(({ tenant, device }) => [`${tenant}\0${device}`, { tenant, device }]))
    for (const { tenant, device } of devices.values()) await this.#keeper.repeat(tenant, device)
  }
}
