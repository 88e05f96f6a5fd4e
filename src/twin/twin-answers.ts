/** Answers devices that ask for their twin (`twin/get`). */
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { TwinQuestions } from './device-link.js'
import { twinJson } from './twin-json.js'
import type { Twins } from './twin-model.js'

export class TwinAnswers implements TwinQuestions {
  readonly #twins: Pick<Twins, 'get'>
  readonly #log: Log
  readonly stats = { accepted: 0, rejected: 0 }

  constructor ({ twins, log }: { readonly twins: Pick<Twins, 'get'>, readonly log: Log }) {
    this.#twins = twins
    this.#log = log
  }

  async answer (tenant: string, device: string, name: string): Promise<{ readonly accepted: boolean, readonly body: string }> {
    try {
      const twin = await this.#twins.get({ tenant, device, name })
      if (twin !== null) {
        this.stats.accepted++
        return { accepted: true, body: twinJson(twin) }
      }
      return this.#rejected('not_found', name === '' ? 'there is no such device' : `there is no twin '${name}'`)
    } catch (error) {
      if (error instanceof TwinfoldError) return this.#rejected(error.code, error.message)
      this.#log.error({ tenant, device, error }, 'a question about a twin met a fault')
      return this.#rejected('internal', 'an unexpected fault; it is in the log of the server')
    }
  }

  #rejected (code: string, detail: string): { readonly accepted: boolean, readonly body: string } {
    this.stats.rejected++
    return { accepted: false, body: JSON.stringify({ code, detail }) }
  }
}
