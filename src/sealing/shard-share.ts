/**
 * Which shards of devices a node looks after: rendezvous hashing (Thaler, Ravishankar 1998), so that a node that comes or goes moves
 * its own share only. Pure. A claim decides where two nodes disagree for a while.
 */
import { hash32 } from '../core/ids.js'
import { shardCount } from '../core/limits.js'

/** Mixes the bits of a hash of short, similar texts (the finaliser of MurmurHash3). */
function mixed (hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** Shards of the node among all live ones, itself included, ascending. */
export function shardsOf (node: string, nodes: readonly string[]): number[] {
  const others = nodes.filter(other => other !== node)
  const shards: number[] = []
  for (let shard = 0; shard < shardCount; shard++) {
    const own = mixed(hash32(`${node}\0${shard}`))
    const wins = others.every(other => {
      const theirs = mixed(hash32(`${other}\0${shard}`))
      return own > theirs || (own === theirs && node < other)
    })
    if (wins) shards.push(shard)
  }
  return shards
}
