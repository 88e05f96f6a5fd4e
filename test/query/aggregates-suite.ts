/** Windows of every kind over a device in every state, against a walk over its points; the same for every store. */
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { usPerDay, usPerHour, usPerMinute, usPerSecond, type Value } from '../../src/core/reading.js'
import type { PartitionPlan } from '../../src/series/partition-plan.js'
import { parseStep, type Step } from '../../src/series/steps/step.js'
import type { Store } from '../../src/store/store.js'
import { differences, World } from './windows-world.js'

/** Clocks in Berlin go back on 25 October 2026 at 01:00 UTC. */
const start = Date.UTC(2026, 9, 23) * 1000
const days = 4
const steps = ['10s', '1m', '5m', '15m', '1h', '90m', '6h', '1d', '1w', '1mo']
const zones = ['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'Australia/Lord_Howe', 'America/New_York']
const numberAggs = ['avg', 'min', 'max', 'sum', 'count', 'first', 'last', 'stddev', 'delta', 'rate', 'twa', 'p50', 'p99']
const stateAggs = ['count', 'first', 'last', 'trues', 'changes', 'timeIn']

export const plans: Readonly<Record<string, PartitionPlan>> = {
  'days': { widths: [{ fromTs: 0, widthMinutes: 1440 }], salts: [{ fromStamp: 0, salts: 1 }] },
  'hours, then days, on three salts': { widths: [{ fromTs: 0, widthMinutes: 60 }, { fromTs: start + usPerDay + 5 * usPerHour, widthMinutes: 1440 }], salts: [{ fromStamp: 0, salts: 3 }] },
  'a width that changes in mid-day, twice': {
    widths: [{ fromTs: 0, widthMinutes: 1440 }, { fromTs: start + usPerDay + 30 * usPerMinute, widthMinutes: 60 }, { fromTs: start + 2 * usPerDay + 7 * usPerHour + 17 * usPerMinute, widthMinutes: 43_200 }],
    salts: [{ fromStamp: 0, salts: 2 }]
  }
}

type Reading = { ts: number, values: [string, Value][] }

function randomReadings (random: () => number, count: number): Reading[] {
  // Mostly one part of the range, so that others stay untouched and come from tiers.
  const around = random() * days * usPerDay
  const spread = random() < 0.3 ? days * usPerDay : random() < 0.5 ? usPerHour : 10 * usPerMinute
  return Array.from({ length: count }, () => {
    const offset = Math.min(days * usPerDay - 1, Math.max(0, around + (random() - 0.5) * spread))
    // Few distinct times, so that points are repeated; now and then exactly on a border.
    const ts = start + (random() < 0.1 ? Math.floor(offset / usPerHour) * usPerHour : Math.floor(offset / (5 * usPerSecond)) * 5 * usPerSecond)
    const values: [string, Value][] = []
    if (random() < 0.9) values.push(['t', random() < 0.02 ? random() < 0.5 : Math.round((random() - 0.3) * 1000) / 10])
    if (random() < 0.5) values.push(['n', Math.floor(random() * 100)])
    if (random() < 0.5) values.push(['on', random() < 0.5])
    if (random() < 0.4) values.push(['mode', ['auto', 'hand', 'off', ''][Math.floor(random() * 4)]])
    return { ts, values }
  }).filter(({ values }) => values.length > 0)
}

async function compare (world: World, random: () => number): Promise<string[]> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]
  const step = parseStep(pick(steps)) as Step
  const fine = step.unit === 'us' && step.count < usPerMinute
  const fromTs = start + Math.floor(random() * days * usPerDay)
  const toTs = fromTs + 1 + Math.floor(random() * (fine ? usPerHour : days * usPerDay))
  const query = {
    wanted: [{ metric: 't', aggs: numberAggs }, { metric: 'n', aggs: ['delta', 'avg'] }, { metric: 'on', aggs: stateAggs }, { metric: 'mode', aggs: stateAggs }].filter(() => random() < 0.7),
    step, zone: pick(zones), fromTs, toTs, nowTs: start + Math.floor(random() * 2 * days * usPerDay), fill: 'none' as const
  }
  if (query.wanted.length === 0) return []
  const answer = await world.ask(query)
  // Points after now are devices' that are ahead: values are held no further than the last point then.
  const wrong = differences(answer, world.expected(query))
  return wrong.length === 0 ? [] : [`${step.text} ${query.zone} ${fromTs}..${toTs} tier ${answer.tier}: ${wrong.length} differences: ${wrong.slice(0, 4).join('; ')}`]
}

/** Writes, merges, seals and erases at random, and compares answers after each. Gives what was wrong. */
export async function wrongAnswers (store: Store, { tenant, plan, seed, rounds }: { tenant: string, plan: PartitionPlan, seed: number, rounds: number }): Promise<string[]> {
  const random = seededRandom(seed)
  const world = new World(store, { tenant, plan, startStamp: start + 30 * usPerDay })
  await world.open()
  const wrong: string[] = []
  for (let round = 0; round < rounds; round++) {
    const dice = random()
    await world.write(randomReadings(random, 1 + Math.floor(random() * 60)), random() < 0.5 ? 1 : 8)
    if (dice < 0.3) await world.mergeSlabs()
    if (dice < 0.5) for (const bucket of await world.unsealed(start, start + days * usPerDay)) if (random() < 0.7) await world.seal(bucket)
    if (dice > 0.85) await world.erase({ ...random() < 0.5 ? { metric: 't' } : {}, fromTs: start + Math.floor(random() * days) * usPerDay, toTs: start + Math.floor(random() * days * usPerDay) + usPerDay })
    if (dice > 0.8 && dice < 0.82) await world.erase({})
    for (let i = 0; i < 4; i++) wrong.push(...(await compare(world, random)).map(text => `round ${round}: ${text}`))
  }
  for (const bucket of await world.unsealed(start, start + days * usPerDay)) await world.seal(bucket)
  for (let i = 0; i < 20; i++) wrong.push(...await compare(world, random))
  return wrong
}
