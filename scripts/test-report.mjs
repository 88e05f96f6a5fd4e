/**
 * Reads tap's report as it comes: counts assertions (the indented leaves; a file that could not run counts as one failure),
 * shows failures with their details, and collects what was skipped for want of a service.
 */
import { createInterface } from 'node:readline'

const detailLines = 40

export class TestReport {
  passed = 0
  failed = 0
  skipped = 0
  /** By file: which service it lacked, and why. */
  withoutService = new Map()
  #lacked = []
  #leafFailed = false
  #detail = 0

  /** @param {import('node:stream').Readable} stream of `tap --reporter=tap` @param {(text: string) => void} write */
  follow (stream, write) {
    createInterface({ input: stream }).on('line', line => {
      const match = /^(\s*)(not )?ok \d+(?: - (.*))?$/.exec(line)
      if (match !== null) this.#result(line, { indent: match[1].length, ok: match[2] === undefined, name: match[3] ?? '' }, write)
      else this.#other(line, write)
    })
  }

  #result (line, { indent, ok, name }, write) {
    this.#detail = 0
    if (indent === 0) {
      const file = name.replace(/ # .*/, '')
      write(`${ok ? '  ok  ' : ' FAIL '} ${file}\n`)
      if (!ok && !this.#leafFailed) this.failed++
      if (this.#lacked.length > 0) this.withoutService.set(file, [...new Set(this.#lacked)])
      this.#leafFailed = false
      this.#lacked = []
      return
    }
    const skip = /# SKIP\s*(.*)/i.exec(line)
    if (skip !== null) {
      this.skipped++
      if (/^\w+ is missing: /.test(skip[1])) this.#lacked.push(skip[1])
      write(`       ${line.trim()}\n`)
      return
    }
    if (/\{$/.test(line) || /# time=/.test(line)) return
    if (ok) {
      this.passed++
      return
    }
    this.failed++
    this.#leafFailed = true
    this.#detail = detailLines
    write(`${line}\n`)
  }

  #other (line, write) {
    // What a test says of itself: seeds, counts, reasons.
    if (/^\s*# (?!Subtest|time=|No coverage|\{)/.test(line) && this.#detail === 0) write(`       ${line.trim()}\n`)
    if (this.#detail > 0) {
      this.#detail--
      write(`${line}\n`)
    }
  }
}
