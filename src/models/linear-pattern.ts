/**
 * Regular expressions of tenants, run in time that grows with the text alone: JavaScript's own engine goes back and forth, and a pattern
 * of ten characters can keep it busy for years. Here every state that a pattern can be in is followed at once (K. Thompson, "Regular
 * Expression Search Algorithm", 1968), so a test costs at most length of the text times size of the pattern.
 *
 * The syntax is JavaScript's with the flag `u`, without what such a machine cannot do: no look-around, no back references, no word
 * borders; it only tells whether a text matches. Pure.
 */
import { TwinfoldError } from '../core/errors.js'

/** Characters of a pattern. */
export const patternCharsMax = 256
/** Steps of the compiled pattern; `{n,m}` counts m times. */
const stepsMax = 1000
/** Longer texts are not looked at: they match no pattern. */
export const patternTextCharsMax = 4096

type OneChar = (char: string) => boolean

type Node =
  | { readonly kind: 'char', readonly matches: OneChar }
  | { readonly kind: 'begin' | 'end' }
  | { readonly kind: 'all' | 'any', readonly parts: readonly Node[] }
  | { readonly kind: 'repeat', readonly part: Node, readonly least: number, readonly most: number }

type Step =
  | { readonly op: 'char', readonly matches: OneChar }
  | { readonly op: 'split', readonly to: number[] }
  | { readonly op: 'begin' | 'end' | 'match' }

const refuse = (pattern: string, what: string): TwinfoldError => new TwinfoldError('invalid_field', `the pattern '${pattern.slice(0, 80)}' ${what}`)

class PatternParser {
  readonly #text: string
  #at = 0

  constructor (text: string) { this.#text = text }

  parse (): Node {
    const node = this.#alternatives()
    if (this.#at < this.#text.length) throw this.#fault('has a parenthesis too many')
    return node
  }

  #fault (what: string): TwinfoldError { return refuse(this.#text, what) }

  #alternatives (): Node {
    const parts = [this.#sequence()]
    while (this.#text[this.#at] === '|') {
      this.#at++
      parts.push(this.#sequence())
    }
    return parts.length === 1 ? parts[0] : { kind: 'any', parts }
  }

  #sequence (): Node {
    const parts: Node[] = []
    while (this.#at < this.#text.length && this.#text[this.#at] !== '|' && this.#text[this.#at] !== ')') parts.push(this.#quantified(this.#atom()))
    return { kind: 'all', parts }
  }

  #quantified (part: Node): Node {
    const found = /^(?:([*+?])|\{([0-9]{1,4})(,?)([0-9]{0,4})\})\??/.exec(this.#text.slice(this.#at))
    if (found === null) return part
    this.#at += found[0].length
    const [, sign, from, comma, to] = found
    if (sign !== undefined) return { kind: 'repeat', part, least: sign === '+' ? 1 : 0, most: sign === '?' ? 1 : Infinity }
    return { kind: 'repeat', part, least: Number(from), most: comma === '' ? Number(from) : to === '' ? Infinity : Number(to) }
  }

  #atom (): Node {
    const char = String.fromCodePoint(this.#text.codePointAt(this.#at) as number)
    switch (char) {
      case '(': return this.#group()
      case '^': this.#at++; return { kind: 'begin' }
      case '$': this.#at++; return { kind: 'end' }
      case '[': return this.#class()
      case '\\': return this.#escape()
      case '.': this.#at++; return { kind: 'char', matches: oneChar('.') }
    }
    this.#at += char.length
    return { kind: 'char', matches: other => other === char }
  }

  #group (): Node {
    const head = /^\((?:\?:|\?<[\p{L}_$][\p{L}\p{N}_$]*>|(?!\?))/u.exec(this.#text.slice(this.#at))
    if (head === null) throw this.#fault('looks ahead or behind, which is not allowed here')
    this.#at += head[0].length
    const node = this.#alternatives()
    this.#at++
    return node
  }

  #class (): Node {
    let end = this.#at + 1
    while (this.#text[end] !== ']') end += this.#text[end] === '\\' ? 2 : 1
    const source = this.#text.slice(this.#at, end + 1)
    this.#at = end + 1
    return { kind: 'char', matches: oneChar(source) }
  }

  #escape (): Node {
    const found = /^\\(?:u\{[0-9A-Fa-f]+\}|u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[pP]\{[^}]*\}|c[A-Za-z]|0|[^1-9bBk])/u.exec(this.#text.slice(this.#at))
    if (found === null) throw this.#fault(`has '${this.#text.slice(this.#at, this.#at + 2)}', which is not allowed here: no back references, no word borders`)
    this.#at += found[0].length
    return { kind: 'char', matches: oneChar(found[0]) }
  }
}

/** What a part of the pattern that stands for one character says of one, remembered for ASCII. */
function oneChar (source: string): OneChar {
  const regExp = new RegExp(`^${source}$`, 'u')
  const known = new Map<string, boolean>()
  return char => {
    let matches = known.get(char)
    if (matches === undefined) {
      matches = regExp.test(char)
      if (known.size < 256) known.set(char, matches)
    }
    return matches
  }
}

class Program {
  readonly steps: Step[] = []
  readonly #pattern: string

  constructor (pattern: string, node: Node) {
    this.#pattern = pattern
    this.#add(node)
    this.#push({ op: 'match' })
  }

  #push (step: Step): Step {
    if (this.steps.length >= stepsMax) throw refuse(this.#pattern, `is too large: ${stepsMax} steps at most, with repetitions counted`)
    this.steps.push(step)
    return step
  }

  #split (): number[] {
    const to: number[] = []
    this.#push({ op: 'split', to })
    return to
  }

  #add (node: Node): void {
    switch (node.kind) {
      case 'char': this.#push({ op: 'char', matches: node.matches }); break
      case 'begin': case 'end': this.#push({ op: node.kind }); break
      case 'all': for (const part of node.parts) this.#add(part); break
      case 'any': this.#addAny(node.parts); break
      case 'repeat': this.#addRepeat(node.part, node.least, node.most); break
    }
  }

  #addAny (parts: readonly Node[]): void {
    const ends: number[][] = []
    const branch = this.#split()
    for (const part of parts) {
      branch.push(this.steps.length)
      this.#add(part)
      ends.push(this.#split())
    }
    for (const end of ends) end.push(this.steps.length)
  }

  #addRepeat (part: Node, least: number, most: number): void {
    for (let i = 0; i < least; i++) this.#add(part)
    if (most === Infinity) {
      const loop = this.steps.length
      const branch = this.#split()
      branch.push(this.steps.length)
      this.#add(part)
      this.#split().push(loop)
      branch.push(this.steps.length)
      return
    }
    const branches: number[][] = []
    for (let i = least; i < most; i++) {
      const branch = this.#split()
      branch.push(this.steps.length)
      this.#add(part)
      branches.push(branch)
    }
    for (const branch of branches) branch.push(this.steps.length)
  }
}

export class LinearPattern {
  readonly #steps: readonly Step[]
  /** When each step was last entered: a number that grows with every character. */
  readonly #entered: Float64Array
  readonly #source: string
  #round = 0

  /** @throws TwinfoldError `invalid_field` for a pattern that is none, too large, or cannot be run so */
  constructor (pattern: string) {
    if (pattern.length > patternCharsMax) throw refuse(pattern, `is longer than ${patternCharsMax} characters`)
    this.#source = pattern
    try {
      // JavaScript's own parser says what is well formed; the parser here may rely on it.
      new RegExp(pattern, 'u')
    } catch (error) {
      throw refuse(pattern, `is no regular expression: ${(error as Error).message.slice(0, 200)}`)
    }
    this.#steps = new Program(pattern, new PatternParser(pattern).parse()).steps
    this.#entered = new Float64Array(this.#steps.length)
  }

  /** Ajv tells patterns apart by this. */
  toString (): string { return `/${this.#source}/` }

  /** The text holds a match. False for texts of more than `patternTextCharsMax` characters. */
  test (text: string): boolean {
    if (text.length > patternTextCharsMax) return false
    let current: number[] = []
    let next: number[] = []
    for (let at = 0; ;) {
      // A match may begin anywhere.
      this.#round++
      for (const step of current.splice(0)) if (this.#enter(step, at, text, next)) return true
      if (this.#enter(0, at, text, next)) return true
      ;[current, next] = [next, current]
      if (at >= text.length) return false
      const char = String.fromCodePoint(text.codePointAt(at) as number)
      at += char.length
      const stepped: number[] = []
      for (const index of current) {
        const step = this.#steps[index] as { readonly op: 'char', readonly matches: OneChar }
        if (step.matches(char)) stepped.push(index + 1)
      }
      current = stepped
    }
  }

  /** Follows what costs no character; characters to be compared are added to `waiting`. True at a match. */
  #enter (first: number, at: number, text: string, waiting: number[]): boolean {
    const open = [first]
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (this.#entered[index] === this.#round) continue
      this.#entered[index] = this.#round
      const step = this.#steps[index]
      switch (step.op) {
        case 'match': return true
        case 'char': waiting.push(index); break
        case 'split': open.push(...step.to); break
        case 'begin': if (at === 0) open.push(index + 1); break
        case 'end': if (at === text.length) open.push(index + 1); break
      }
    }
    return false
  }
}
