/**
 * Runs the built tests with tap and ends with `N passed, N failed, N skipped` alone on a line (assertions; a file that could
 * not run counts as one failure). Without arguments: every test under dist/test except the drills. Lint comes first, because
 * a rule that is only checked now and then is no rule.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(import.meta.url)
const files = process.argv.slice(2)
const wholeSuite = files.length === 0

function testFiles () {
  const list = readdirSync('dist/test', { recursive: true, encoding: 'utf8' }).map(name => join('dist/test', name))
  // What an earlier build left behind of a test that is gone does not count.
  return list.filter(file => file.endsWith('.test.js') && !file.includes('/drills/') && existsSync(file.replace('dist/', '').replace(/\.js$/, '.ts'))).sort()
}

let lintFailed = 0
if (wholeSuite) {
  const lint = spawnSync(process.execPath, [require.resolve('eslint/package.json').replace('package.json', 'bin/eslint.js'), '.'], { stdio: 'inherit' })
  lintFailed = lint.status === 0 ? 0 : 1
  process.stdout.write(lintFailed === 0 ? 'lint: clean\n' : 'lint: failed\n')
}

const tap = require.resolve('tap/package.json').replace('package.json', 'dist/esm/run.mjs')
if (!existsSync(tap)) throw new Error(`tap's runner is not where it was: ${tap}`)
const runner = spawn(process.execPath, [tap, 'run', '--disable-coverage', '--allow-empty-coverage', '--jobs=2', '--timeout=300', '--reporter=tap', ...(wholeSuite ? testFiles() : files)], {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: { ...process.env, UV_THREADPOOL_SIZE: '16' }
})

// tap's own report is a tree; assertions are the indented leaves, counted here, failures shown with their details.
let passed = 0
let failed = 0
let skipped = 0
let detail = 0
let current = ''
createInterface({ input: runner.stdout }).on('line', line => {
  const match = /^(\s*)(not )?ok \d+(?: - (.*))?$/.exec(line)
  if (match !== null) {
    const isLeaf = !/\{$/.test(line) && match[1].length > 0 && !/# time=/.test(line)
    const isSkip = /# SKIP/i.test(line)
    detail = 0
    if (match[1].length === 0) {
      process.stdout.write(`${match[2] === undefined ? '  ok  ' : ' FAIL '} ${(match[3] ?? '').replace(/ # time=.*/, '')}\n`)
      if (match[2] !== undefined && current !== 'leaf-failed') failed += 1
      current = ''
      return
    }
    if (isSkip) { skipped++; process.stdout.write(`       ${line.trim()}\n`); return }
    if (!isLeaf) return
    if (match[2] === undefined) passed++
    else {
      failed++
      current = 'leaf-failed'
      detail = 40
      process.stdout.write(`${line}\n`)
    }
    return
  }
  // What a test says of itself: seeds, counts, reasons.
  if (/^\s*# (?!Subtest|time=|No coverage|\{)/.test(line) && detail === 0) process.stdout.write(`       ${line.trim()}\n`)
  if (detail > 0) { detail--; process.stdout.write(`${line}\n`) }
})
runner.on('close', code => {
  if (code !== 0 && failed === 0) failed = 1
  failed += lintFailed
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`)
  process.exit(failed === 0 && code === 0 ? 0 : 1)
})
