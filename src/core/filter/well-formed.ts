/** Texts as they are in UTF-8, which is how analytics holds and orders them: filters mean the same in both places. Pure. */

const surrogate = /[\ud800-\udfff]/

/** A lone surrogate becomes U+FFFD, as in UTF-8. */
export function wellFormed (text: string): string {
  return surrogate.test(text) ? Buffer.from(text).toString() : text
}

/** Below 0, 0 or above, in order of the bytes in UTF-8 (which is that of the code points). */
export function compareTexts (a: string, b: string): number {
  if (a === b) return 0
  if (surrogate.test(a) || surrogate.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b))
  return a < b ? -1 : 1
}
