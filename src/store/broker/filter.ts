/**
 * Topic filters (MQTT 3.1.1 section 4.7): matching one, and an index of many. Pure. `+` matches one level, an empty
 * one too [4.7.1-3]; `#` matches the parent and everything below; a filter that begins with a wildcard does not match
 * topics that begin with `$` [4.7.2-1].
 */
import type { SubscriptionOptions } from './codec.js'
import type { MatchedSubscription } from './types.js'

/** Where retained topics that a filter can match are to be looked for. */
export interface FilterPlan {
  readonly levels: readonly string[]
  /** A topic to ask for by itself, null where there is none: the filter without wildcards, or the parent of `…/#`. */
  readonly exact: string | null
  /** All other matches begin with this; null where there are no others. */
  readonly prefix: string | null
}

export function planFilter (filter: string): FilterPlan {
  const levels = filter.split('/')
  const first = levels.findIndex((level) => level === '+' || level === '#')
  if (first === -1) return { levels, exact: filter, prefix: null }
  const literal = levels.slice(0, first).join('/')
  return {
    levels,
    exact: levels[first] === '#' && first > 0 ? literal : null,
    prefix: first === 0 ? '' : `${literal}/`
  }
}

export function matches (levels: readonly string[], topic: string): boolean {
  if (topic.startsWith('$') && (levels[0] === '+' || levels[0] === '#')) return false
  let at = 0
  for (let i = 0; i < levels.length; i++) {
    if (levels[i] === '#') return true
    // `at` is past the end once the topic has no more levels.
    if (at > topic.length) return false
    let end = topic.indexOf('/', at)
    if (end === -1) end = topic.length
    if (levels[i] !== '+' && (levels[i].length !== end - at || !topic.startsWith(levels[i], at))) return false
    at = end + 1
    if (at > topic.length && i + 2 === levels.length && levels[i + 1] === '#') return true
  }
  return at > topic.length
}

/** One level. A single child and a single subscriber need no map: most nodes of a fleet have one of each. */
class Node {
  level: string
  onlyChild: Node | null = null
  children: Map<string, Node> | null = null
  filter = ''
  subscribers: Map<string, SubscriptionOptions> | null = null

  constructor (level: string) {
    this.level = level
  }

  child (level: string): Node | null {
    if (this.onlyChild !== null) return this.onlyChild.level === level ? this.onlyChild : null
    return this.children?.get(level) ?? null
  }

  addChild (node: Node): void {
    if (this.children !== null) {
      this.children.set(node.level, node)
    } else if (this.onlyChild === null) {
      this.onlyChild = node
    } else {
      this.children = new Map([[this.onlyChild.level, this.onlyChild], [node.level, node]])
      this.onlyChild = null
    }
  }

  removeChild (level: string): void {
    if (this.onlyChild?.level === level) this.onlyChild = null
    else if (this.children?.delete(level) && this.children.size === 0) this.children = null
  }

  get empty (): boolean {
    return this.subscribers === null && this.onlyChild === null && this.children === null
  }
}

/** Which sessions a topic is for. Bounded by the subscriptions stored; matching costs by matching branches. */
export class SubscriptionIndex {
  readonly #root = new Node('')
  #size = 0

  get size (): number { return this.#size }

  /** Adds or replaces. */
  add (clientId: string, filter: string, options: SubscriptionOptions): void {
    let node = this.#root
    for (const level of filter.split('/')) {
      let child = node.child(level)
      if (child === null) {
        child = new Node(level)
        node.addChild(child)
      }
      node = child
    }
    node.filter = filter
    node.subscribers ??= new Map()
    if (!node.subscribers.has(clientId)) this.#size++
    node.subscribers.set(clientId, options)
  }

  remove (clientId: string, filter: string): void {
    const path: Node[] = [this.#root]
    for (const level of filter.split('/')) {
      const child = path[path.length - 1].child(level)
      if (child === null) return
      path.push(child)
    }
    const leaf = path[path.length - 1]
    if (leaf.subscribers === null || !leaf.subscribers.delete(clientId)) return
    this.#size--
    if (leaf.subscribers.size === 0) leaf.subscribers = null
    for (let i = path.length - 1; i > 0 && path[i].empty; i--) path[i - 1].removeChild(path[i].level)
  }

  /** Subscriptions whose filter matches the topic; a client once for each of them. */
  match (topic: string): MatchedSubscription[] {
    const found: MatchedSubscription[] = []
    this.#match(this.#root, topic.split('/'), 0, topic.startsWith('$'), found)
    return found
  }

  #match (node: Node, levels: readonly string[], depth: number, dollar: boolean, found: MatchedSubscription[]): void {
    const wildcards = !(dollar && depth === 0)
    if (wildcards) collect(node.child('#'), found)
    if (depth === levels.length) {
      collect(node, found)
      return
    }
    if (wildcards) {
      const any = node.child('+')
      if (any !== null) this.#match(any, levels, depth + 1, dollar, found)
    }
    const level = levels[depth]
    // A `+` or `#` in a topic is refused before it gets here; it must not be taken for the wildcard's node.
    const next = level === '+' || level === '#' ? null : node.child(level)
    if (next !== null) this.#match(next, levels, depth + 1, dollar, found)
  }
}

function collect (node: Node | null, found: MatchedSubscription[]): void {
  if (node === null || node.subscribers === null) return
  for (const [clientId, { qos, rh, rap, nl }] of node.subscribers) found.push({ clientId, topic: node.filter, qos, rh, rap, nl })
}
