/** Processes: run one to its end, start one that stays, wait until it answers, end exactly that one. */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Runs a command to its end and resolves to its exit code (-1: killed, or it does not exist). Its output goes to the file `output`. */
export function run (command, args, { output, timeoutMs, cwd, environment }) {
  const file = openSync(output, 'a')
  return new Promise(resolve => {
    const child = spawn(command, args, { stdio: ['ignore', file, file], cwd, env: environment, timeout: timeoutMs, killSignal: 'SIGKILL' })
    child.on('error', () => { resolve(-1) })
    child.on('exit', code => { resolve(code ?? -1) })
  }).finally(() => { closeSync(file) })
}

/** Starts a process that outlives this one, with its output in a file. Returns its id, and a function that says whether it has ended. */
export function startDaemon (command, args, { output, cwd, environment }) {
  const file = openSync(output, 'a')
  try {
    const child = spawn(command, args, { stdio: ['ignore', file, file], cwd, env: environment, detached: true })
    let ended = ''
    child.on('error', error => { ended = error.message })
    child.on('exit', (code, signal) => { ended = `ended with ${signal ?? `code ${code}`}` })
    child.unref()
    return { pid: child.pid, ended: () => ended }
  } finally {
    closeSync(file)
  }
}

/**
 * Asks again and again until `probe` answers.
 * @param {() => Promise<{ answers: boolean, reason?: string }>} probe
 * @param {{ timeoutMs: number, intervalMs?: number, ended?: () => string, name: string, logFile?: string }} options `ended`: why the process is gone, '' while it runs
 * @throws Error with the end of its log when it ended, or did not answer in time.
 */
export async function waitUntilItAnswers (probe, { timeoutMs, intervalMs = 150, ended = () => '', name, logFile }) {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const result = await probe()
    if (result.answers) return
    const gone = ended()
    if (gone !== '') throw new Error(`${name} ${gone}${tail(logFile)}`)
    if (performance.now() > deadline) throw new Error(`${name} did not answer within ${timeoutMs / 1000} s: ${result.reason}${tail(logFile)}`)
    await delay(intervalMs)
  }
}

function tail (logFile) {
  if (logFile === undefined || !existsSync(logFile)) return ''
  return `; the end of ${logFile}:\n${readFileSync(logFile, 'utf8').slice(-1500)}`
}

/** Whether a process with that id lives (a zombie does not). */
export function lives (pid) {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return error.code === 'EPERM'
  }
  try {
    // After the command name, which may hold anything, in parentheses: the state.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z'
  } catch {
    return true
  }
}

/** When the process was started, in the kernel's ticks since boot: with the id it names one process for good. null where /proc is not to be had. */
export function startTicks (pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  } catch {
    return null
  }
}

/** Ends a process: SIGTERM, after `patienceMs` SIGKILL. Resolves once it is gone. */
export async function endProcess (pid, patienceMs) {
  const signal = name => { try { process.kill(pid, name) } catch { /* It is gone already. */ } }
  signal('SIGTERM')
  const deadline = performance.now() + patienceMs
  while (lives(pid) && performance.now() < deadline) await delay(50)
  if (!lives(pid)) return
  signal('SIGKILL')
  while (lives(pid)) await delay(20)
}
