/**
 * A Cassandra of one test, of one or two nodes, which the test may kill, stop and pause as it likes. Real in all that matters:
 * synced commit log, its own data on disk, restarts on the same data.
 */
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort, PrivateFolder, PrivateProcess } from './private-process.js'
import { serviceControl, type CassandraNodeFiles } from './service-control.js'

export interface PrivateCassandraOptions {
  /**
   * Two: in one data centre, a keyspace may have two replicas. On 127.0.0.2 and 127.0.0.3, not on 127.0.0.1: a driver that is not
   * told the port (`protocolOptions.port`) looks for the nodes it hears of on 9042, and must not find the shared Cassandra there.
   */
  readonly nodes: 1 | 2
  /** Heap of each node; 512 unless given. */
  readonly heapMb?: number
  /** For nodeTool; true unless given, and always with two nodes. */
  readonly jmx?: boolean
}

/** Nodes are numbered from 0. */
export interface PrivateCassandra {
  /** `host:port` of every node. */
  readonly contactPoints: readonly string[]
  readonly dataCenter: string
  /** Folder that holds a folder for each keyspace. */
  dataDirectory (node: number): string
  /** What the command printed. Takes about two seconds. @throws Error with its output when it fails. */
  nodeTool (node: number, ...args: string[]): Promise<string>
  /** SIGKILL. Resolves once the process is gone. */
  kill (node: number): Promise<void>
  /** An orderly stop (drained). */
  stop (node: number): Promise<void>
  /** Starts a killed or stopped node on its data; resolves when it answers CQL and the other node, where that answers too, sees it up. */
  start (node: number): Promise<void>
  /** SIGSTOP: connections stay open, nothing answers. */
  pause (node: number): void
  /** SIGCONT. */
  resume (node: number): void
  /** Kills what runs and removes the data. */
  close (): Promise<void>
}

const startTimeoutMs = 120_000
const nodeToolTimeoutMs = 120_000
/** With less, a joining node never hears of the first one. The first node has nobody to wait for. */
const joinRingDelayMs = 5000
const loneRingDelayMs = 100

class Node {
  readonly #folder: PrivateFolder
  readonly files: CassandraNodeFiles
  #process: PrivateProcess | null = null
  /** It has answered CQL since its last start. */
  #answered = false
  paused = false

  constructor (folder: PrivateFolder, files: CassandraNodeFiles) {
    this.#folder = folder
    this.files = files
  }

  get running (): boolean { return this.#process !== null && this.#process.ended === '' }
  get ready (): boolean { return this.running && this.#answered && !this.paused }

  async start (): Promise<void> {
    if (this.running) return
    const { prepareCassandraNode } = await serviceControl('cassandra-node')
    const { waitUntilItAnswers } = await serviceControl('processes')
    const { probeCassandra } = await serviceControl('probes')
    const spec = prepareCassandraNode(this.files)
    const started = new PrivateProcess(this.#folder, spec)
    this.#process = started
    this.#answered = false
    this.paused = false
    await waitUntilItAnswers(async () => await probeCassandra(this.files.address, this.files.nativePort), {
      timeoutMs: startTimeoutMs, ended: () => started.ended, name: `Cassandra on ${this.files.address}:${this.files.nativePort}`, logFile: spec.logFile
    })
    this.#answered = true
  }

  async kill (): Promise<void> { await this.#process?.kill() }
  async stop (): Promise<void> { await this.#process?.stop(30_000) }

  pause (): void {
    this.paused = true
    this.#process?.signal('SIGSTOP')
  }

  resume (): void {
    this.paused = false
    this.#process?.signal('SIGCONT')
  }

  async nodeTool (args: readonly string[]): Promise<string> {
    if (this.files.jmxPort === null) throw new Error('nodeTool needs startPrivateCassandra({ jmx: true })')
    const { nodeToolCommand } = await serviceControl('cassandra-node')
    const { command, args: line } = nodeToolCommand(this.files, args)
    return await outputOf(command, line)
  }
}

async function outputOf (command: string, args: readonly string[]): Promise<string> {
  return await new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: nodeToolTimeoutMs, killSignal: 'SIGKILL' })
    let output = ''
    let errors = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output)
      else reject(new Error(`nodetool ended with ${signal ?? `code ${code}`}: ${errors}${output}`))
    })
  })
}

/** The nodes that `observer` sees up and in normal state. */
async function nodesUp (observer: Node): Promise<ReadonlySet<string>> {
  const status = await observer.nodeTool(['status'])
  return new Set([...status.matchAll(/^UN\s+([\d.]+)/gm)].map(match => match[1]))
}

async function waitUntilSeen (nodes: readonly Node[], node: Node): Promise<void> {
  const deadline = performance.now() + startTimeoutMs
  for (const observer of nodes.filter(other => other !== node && other.ready)) {
    while (!(await nodesUp(observer)).has(node.files.address)) {
      if (performance.now() > deadline) throw new Error(`${observer.files.address} does not see ${node.files.address} up`)
      await delay(300)
    }
  }
}

/** @throws Error saying what is missing (Java 17, Maven), or with the end of the node's log. */
export async function startPrivateCassandra ({ nodes: nodeCount, heapMb = 512, jmx = true }: PrivateCassandraOptions): Promise<PrivateCassandra> {
  const { findJava, ensureCassandraJars } = await serviceControl('cassandra-install')
  const { cassandraDataDirectory } = await serviceControl('cassandra-node')
  const java = findJava()
  const jars = await ensureCassandraJars(() => { /* A test has nobody to tell. */ })
  const addresses = nodeCount === 1 ? ['127.0.0.1'] : ['127.0.0.2', '127.0.0.3']
  const nativePort = await freePort(addresses)
  const storagePort = await freePort(addresses)
  const folder = new PrivateFolder('cassandra')
  const nodes: Node[] = []
  for (const [index, address] of addresses.entries()) {
    const directory = join(folder.directory, `node${index}`)
    mkdirSync(directory)
    nodes.push(new Node(folder, {
      directory, java, jars, address, nativePort, storagePort, heapMb,
      jmxPort: jmx || nodeCount > 1 ? await freePort(['127.0.0.1']) : null,
      seeds: [`${addresses[0]}:${storagePort}`],
      ringDelayMs: index === 0 ? loneRingDelayMs : joinRingDelayMs,
      clusterName: 'twinfold-private'
    }))
  }
  const start = async (node: Node): Promise<void> => {
    await node.start()
    await waitUntilSeen(nodes, node)
  }
  try {
    for (const node of nodes) await start(node)
  } catch (error) {
    await folder.close()
    throw error
  }
  return {
    contactPoints: addresses.map(address => `${address}:${nativePort}`),
    dataCenter: 'datacenter1',
    dataDirectory: index => cassandraDataDirectory(nodes[index].files.directory),
    nodeTool: async (index, ...args) => await nodes[index].nodeTool(args),
    kill: async index => { await nodes[index].kill() },
    stop: async index => { await nodes[index].stop() },
    start: async index => { await start(nodes[index]) },
    pause: index => { nodes[index].pause() },
    resume: index => { nodes[index].resume() },
    close: async () => {
      await Promise.all(nodes.map(async node => { await node.kill() }))
      await folder.close()
    }
  }
}
