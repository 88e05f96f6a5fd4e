/** Redis outside a container: where a `redis-server` comes from, and its command line. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cacheDirectory } from './settings.mjs'
import { run } from './processes.mjs'

const installTimeoutMs = 180_000

function works (command, environment) {
  return spawnSync(command, ['--version'], { timeout: 10_000, env: environment }).status === 0
}

/** A command with the environment that lets it find the libraries unpacked beside it. */
function unpacked (directory) {
  const usr = join(directory, 'usr')
  const libraries = existsSync(join(usr, 'lib')) ? [join(usr, 'lib'), ...readdirSync(join(usr, 'lib'), { withFileTypes: true }).filter(entry => entry.isDirectory()).map(entry => join(usr, 'lib', entry.name))] : []
  return { command: join(usr, 'bin/redis-server'), environment: { ...process.env, LD_LIBRARY_PATH: libraries.join(':') } }
}

/**
 * A redis-server: on PATH, unpacked in the cache, or installed now: as root by apt-get (the system's own service is not
 * started), else by unpacking Debian's packages into the cache.
 * @param {(line: string) => void} log
 * @throws Error saying what was tried.
 */
export async function ensureRedisServer (log) {
  const onPath = { command: 'redis-server', environment: process.env }
  if (works(onPath.command, onPath.environment)) return onPath
  const directory = join(cacheDirectory, 'redis')
  if (existsSync(join(directory, 'usr/bin/redis-server')) && works(unpacked(directory).command, unpacked(directory).environment)) return unpacked(directory)
  if (spawnSync('apt-get', ['--version'], { timeout: 10_000 }).status !== 0) throw new Error('there is no redis-server on PATH, and no apt-get to fetch one (install Redis 7)')
  mkdirSync(cacheDirectory, { recursive: true })
  const partial = mkdtempSync(join(cacheDirectory, 'partial-'))
  const output = join(partial, 'apt.log')
  const apt = (command, args, cwd) => run(command, args, { output, timeoutMs: installTimeoutMs, cwd, environment: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' } })
  try {
    if (process.getuid?.() === 0) {
      log('installing redis-server with apt-get')
      // RUNLEVEL=1 makes invoke-rc.d leave the service alone: only the program is wanted.
      const install = () => apt('apt-get', ['install', '-y', '--no-install-recommends', 'redis-server'], partial)
      if (await install() !== 0) { await apt('apt-get', ['update'], partial); await install() }
      if (works(onPath.command, onPath.environment)) return onPath
    }
    log(`unpacking Debian's redis-server into ${directory}`)
    // A machine that was just made has no package lists; without the right to fetch them the downloads say so.
    if (await apt('apt-get', ['download', 'redis-tools'], partial) !== 0) await apt('apt-get', ['update'], partial)
    // redis-tools holds the program, the others are libraries that a bare Debian lacks.
    for (const name of ['redis-server', 'redis-tools', 'libjemalloc2', 'liblua5.1-0', 'liblzf1', 'lua-cjson', 'lua-bitop', 'libatomic1']) {
      await apt('apt-get', ['download', name], partial)
    }
    for (const name of readdirSync(partial).filter(file => file.endsWith('.deb'))) await apt('dpkg', ['-x', name, join(partial, 'root')], partial)
    const root = join(partial, 'root')
    if (!existsSync(root) || !works(unpacked(root).command, unpacked(root).environment)) throw new Error(`there is no redis-server on PATH, and apt-get could not fetch one: ${readFileSync(output, 'utf8').trim().slice(-400)}`)
    rmSync(directory, { recursive: true, force: true })
    renameSync(root, directory)
    return unpacked(directory)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}

/** Arguments of redis-server: loopback only, data in `directory`. `appendOnly`: every write is in the synced file before it is answered. */
export function redisArguments ({ directory, port, appendOnly, memoryMaxMb }) {
  return ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--daemonize', 'no', '--save', '', '--maxmemory', `${memoryMaxMb}mb`, '--maxmemory-policy', 'noeviction',
    ...(appendOnly ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no'])]
}
