import t from 'tap'
import fc from 'fast-check'
import { TwinfoldError } from '../../src/core/errors.js'
import { LinearPattern, patternTextCharsMax } from '../../src/models/linear-pattern.js'

const atoms = ['a', 'b', '.', '[ab]', '[^a]', '\\d', '\\.', '[\\d-]', 'é', '\\u{1F600}', '^', '$', '[^]', '\\x61', '\\p{L}']
const quantifiers = ['', '', '', '*', '+', '?', '*?', '{2}', '{1,3}', '{0,2}', '{2,}']
const { pattern } = fc.letrec<{ pattern: string }>(tie => ({
  pattern: fc.array(fc.oneof(
    { weight: 4, arbitrary: fc.tuple(fc.constantFrom(...atoms), fc.constantFrom(...quantifiers)).map(([atom, quantifier]) => atom === '^' || atom === '$' ? atom : atom + quantifier) },
    { weight: 1, arbitrary: fc.tuple(tie('pattern'), tie('pattern'), fc.constantFrom('(', '(?:', '(?<n>'), fc.constantFrom(...quantifiers)).map(([left, right, open, quantifier]) => `${open}${left}|${right})${quantifier}`) }
  ), { minLength: 0, maxLength: 4 }).map(parts => parts.join(''))
}))

t.test('a pattern matches exactly what it matches in JavaScript', async t => {
  let compared = 0
  fc.assert(fc.property(pattern, fc.array(fc.constantFrom('a', 'b', '1', '.', '-', 'é', '\n', '😀'), { maxLength: 8 }).map(chars => chars.join('')), (source, text) => {
    let expected: RegExp
    try { expected = new RegExp(source, 'u') } catch { return }
    let own: LinearPattern
    try { own = new LinearPattern(source) } catch (error) {
      // Named groups that are given twice are no JavaScript; too large ones are refused.
      return (error as Error).message.includes('too large') || (error as Error).message.includes('longer')
    }
    compared++
    return own.test(text) === expected.test(text)
  }), { numRuns: 1000 })
  t.ok(compared > 300, `${compared} compared`)
})

t.test('patterns that keep other engines busy for years are done at once', async t => {
  const startMs = performance.now()
  const long = 'a'.repeat(patternTextCharsMax - 1)
  for (const source of ['^(a+)+$', '^(a|a)*$', '^(a|aa)+$', '(.*)*x$', '^(([a-z])+.)+[A-Z]([a-z])+$', 'a*a*a*a*a*a*a*a*b']) t.equal(new LinearPattern(source).test(`${long}!`), false, source)
  t.ok(performance.now() - startMs < 3000, `${Math.round(performance.now() - startMs)} ms`)
  t.equal(new LinearPattern('a').test('a'.repeat(patternTextCharsMax + 1)), false, 'a longer text matches nothing')
})

t.test('what such a machine cannot do is refused by name', async t => {
  for (const source of ['(?=a)', '(?!a)', '(?<=a)', '(?<!a)', '(a)\\1', '(?<n>a)\\k<n>', '\\bword', '\\B', '(', 'a{2000}', 'a**', 'x'.repeat(257), '((a{30}){30}){30}']) {
    t.throws(() => new LinearPattern(source), TwinfoldError, source.slice(0, 30))
  }
})
