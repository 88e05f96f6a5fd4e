import t from 'tap'
import { usPerDay, usPerHour, usPerMinute } from '../../../src/core/reading.js'
import { bordersOf, parseStep, stepFor, windowsMost, type Step } from '../../../src/series/steps/step.js'
import { Zone } from '../../../src/series/steps/zone.js'

const utc = (text: string): number => Date.parse(text) * 1000
const borders = (step: string, zone: string, from: string, to: string): string[] =>
  Array.from(bordersOf(parseStep(step) as Step, new Zone(zone), utc(from), utc(to)), us => new Date(us / 1000).toISOString().slice(0, 16))

void t.test('steps are read from short and ISO 8601 forms, and refused where they are no one duration', async t => {
  for (const [text, shown] of [['10s', '10s'], ['90s', '90s'], ['60m', '1h'], ['PT5M', '5m'], ['PT1H30M', '90m'], ['PT0.5S', '500ms'], ['P1D', '1d'], ['7d', '1w'], ['P2W', '2w'], ['P1M', '1mo'], ['12mo', '1y'], ['P1Y6M', '18mo'], ['24h', '24h']]) {
    t.equal(parseStep(text)?.text, shown, text)
  }
  for (const text of ['', '5', '0s', '-1h', '1.5h', '1h30m', 'P', 'PT', 'P1DT1H', 'P1M1D', '1q', '200y', 'PT0S', '1 h']) t.equal(parseStep(text), null, text)
})

void t.test('days of a zone have 23 and 25 hours when clocks change', async t => {
  t.same(borders('1d', 'Europe/Berlin', '2026-03-28T12:00:00Z', '2026-03-30T12:00:00Z'), ['2026-03-27T23:00', '2026-03-28T23:00', '2026-03-29T22:00', '2026-03-30T22:00'])
  t.same(borders('1d', 'Europe/Berlin', '2026-10-24T12:00:00Z', '2026-10-26T12:00:00Z'), ['2026-10-23T22:00', '2026-10-24T22:00', '2026-10-25T23:00', '2026-10-26T23:00'])
})

void t.test('zones of half and quarter hours, and a change of half an hour', async t => {
  t.same(borders('1d', 'Asia/Kathmandu', '2026-01-01T00:00:00Z', '2026-01-01T20:00:00Z'), ['2025-12-31T18:15', '2026-01-01T18:15', '2026-01-02T18:15'])
  // Lord Howe: +10:30, in summer +11, from 4 October 2026 02:00.
  t.same(borders('1d', 'Australia/Lord_Howe', '2026-10-03T14:00:00Z', '2026-10-04T14:00:00Z'), ['2026-10-03T13:30', '2026-10-04T13:00', '2026-10-05T13:00'])
})

void t.test('a day whose midnight does not exist begins at one o\'clock, and one that occurs twice has 25 hours', async t => {
  // Cairo: clocks go forward at midnight of 24 April 2026, and back at midnight of 30 October.
  t.same(borders('1d', 'Africa/Cairo', '2026-04-23T12:00:00Z', '2026-04-24T12:00:00Z'), ['2026-04-22T22:00', '2026-04-23T22:00', '2026-04-24T21:00'])
  t.same(borders('1d', 'Africa/Cairo', '2026-10-29T12:00:00Z', '2026-10-30T12:00:00Z'), ['2026-10-28T21:00', '2026-10-29T22:00', '2026-10-30T22:00'])
})

void t.test('a day that a zone left out is no window', async t => {
  // Samoa crossed the date line: 30 December 2011 was not.
  t.same(borders('1d', 'Pacific/Apia', '2011-12-29T12:00:00Z', '2011-12-31T12:00:00Z'), ['2011-12-29T10:00', '2011-12-30T10:00', '2011-12-31T10:00', '2012-01-01T10:00'].slice(0, 4))
})

void t.test('weeks begin on Monday, months on their first, several of them count from 1970', async t => {
  t.same(borders('1w', 'UTC', '2026-01-01T00:00:00Z', '2026-01-06T00:00:00Z'), ['2025-12-29T00:00', '2026-01-05T00:00', '2026-01-12T00:00'])
  t.same(borders('1mo', 'UTC', '2026-02-10T00:00:00Z', '2026-03-02T00:00:00Z'), ['2026-02-01T00:00', '2026-03-01T00:00', '2026-04-01T00:00'])
  t.same(borders('3mo', 'America/New_York', '2026-02-10T00:00:00Z', '2026-02-11T00:00:00Z'), ['2026-01-01T05:00', '2026-04-01T04:00'])
  t.same(borders('1y', 'UTC', '2026-02-10T00:00:00Z', '2026-02-11T00:00:00Z'), ['2026-01-01T00:00', '2027-01-01T00:00'])
})

void t.test('every instant of ten years lies in the window of its local date', async t => {
  for (const name of ['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'Australia/Lord_Howe', 'America/Sao_Paulo', 'Africa/Cairo', 'Pacific/Apia', 'Africa/Casablanca', 'America/St_Johns']) {
    const zone = new Zone(name)
    const from = utc('2010-01-01T00:00:00Z')
    const days = bordersOf(parseStep('1d') as Step, zone, from, utc('2020-01-01T00:00:00Z'))
    const date = new Intl.DateTimeFormat('en-CA', { timeZone: name })
    let wrong = 0
    for (let i = 1; i < days.length; i++) {
      if (days[i] - days[i - 1] < 22 * usPerHour || days[i] - days[i - 1] > 26 * usPerHour) wrong++
      const shown = (us: number): string => date.format(us / 1000)
      if (shown(days[i - 1]) !== shown(days[i] - usPerMinute) || shown(days[i]) === shown(days[i] - usPerMinute)) wrong++
    }
    t.equal(wrong, 0, name)
  }
})

void t.test('the round step for a number of points is the shortest that does not exceed it', async t => {
  for (const [spanUs, points, step] of [[usPerDay, 500, '5m'], [usPerDay, 24, '2h'], [365 * usPerDay, 400, '1d'], [365 * usPerDay, 13, '3mo'], [usPerHour, 5000, '1s'], [1, 1, '100y']] as const) {
    t.equal(stepFor(spanUs, points).text, step)
    if (points > 1) t.ok(windowsMost(stepFor(spanUs, points), spanUs) <= points)
  }
})
