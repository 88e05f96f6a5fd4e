import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { chooseSeed, open, readBack, seededRandom, temporaryDirectory, textsOf } from './journal-support.js'

const child = fileURLToPath(new URL('./kill-child.js', import.meta.url))

/** Runs the child until it has reported at least `commits` records, kills it, and returns the last one it reported. */
async function runAndKill (t: { teardown(undo: () => void): unknown }, directory: string, name: string, commits: number): Promise<number> {
  const running = spawn(process.execPath, [child, directory, name], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { running.kill('SIGKILL') })
  let output = ''
  let last = -1
  running.stdout.setEncoding('latin1')
  running.stdout.on('data', (text: string) => {
    output += text
    const lines = output.split('\n')
    output = lines.pop() as string
    if (lines.length > 0) last = Number(lines[lines.length - 1])
    if (last >= commits) running.kill('SIGKILL')
  })
  await new Promise<void>((resolve, reject) => {
    running.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve()
      else reject(new Error(`the child ended by itself: ${code} ${signal}`))
    })
  })
  return last
}

void t.test('what was reported committed survives SIGKILL, in order, once, over several lives', async t => {
  const seed = chooseSeed()
  const random = seededRandom(seed)
  const directory = temporaryDirectory(t)
  const reported: number[] = []
  for (let life = 0; life < 4; life++) {
    reported.push(await runAndKill(t, directory, `life${life}`, 200 + Math.floor(random() * 3000)))
    const journal = await open(directory)
    const found = textsOf(journal).map(text => text.slice(0, text.indexOf('|')))
    t.equal(new Set(found).size, found.length, `nothing twice (seed ${seed})`)
    reported.forEach((last, i) => {
      const numbers = found.filter(text => text.startsWith(`life${i}.`)).map(text => Number(text.split('.')[1]))
      t.ok(numbers.every((number, k) => number === k), `life ${i} without a hole`)
      t.ok(numbers.length > last, `life ${i}: ${numbers.length} records found, number ${last} was acknowledged (seed ${seed})`)
    })
    t.same(journal.recovered.damaged, [])
    const { marks, nextFrom } = journal.recovered
    const inSlices = marks.reduce((sum, mark) => sum + readBack(journal, mark.from, mark.to).records.length, 0)
    t.equal(inSlices + readBack(journal, nextFrom).records.length, found.length, 'every record is in one slice or in the tail')
    await journal.close()
  }
})
