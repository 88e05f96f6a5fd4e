/**
 * Numbers as text, remembered: sensors send the same few thousand values again and again, and writing out a double costs more than
 * finding it here. Direct-mapped, so it is bounded and a miss costs one write.
 */
import { formatValue } from '../core/json-values.js'

const places = 1 << 14

export class NumberTexts {
  readonly #values = new Float64Array(places).fill(NaN)
  readonly #texts = new Array<string>(places).fill('')

  /** As `formatValue`. */
  of (value: number): string {
    // -0 and 0 are equal, and not the same text.
    if (value === 0) return formatValue(value)
    const place = (value * 1000) & (places - 1)
    if (this.#values[place] === value) return this.#texts[place]
    this.#values[place] = value
    return this.#texts[place] = formatValue(value)
  }
}
