/** Tags of a device: names and values for choosing and grouping devices. */
import { TwinfoldError } from '../../core/errors.js'
import type { Schema } from './schema-check.js'

export const tagsMax = 32
export const tagNamePattern = /^[A-Za-z0-9_.:/-]{1,64}$/
const valueCharsMax = 256

export type Tags = Readonly<Record<string, string>>

/** A change replaces all tags. */
export const tagsSchema: Schema = {
  type: 'object',
  additionalProperties: { type: 'string', maxLength: valueCharsMax },
  maxProperties: tagsMax,
  description: `For choosing and grouping devices: at most ${tagsMax}, names of 1 to 64 characters of A-Z a-z 0-9 _ . : / -, values of up to ${valueCharsMax}.`,
  examples: [{ site: 'berlin', line: '4' }]
}

/** @throws TwinfoldError `invalid_field` naming the tag */
export function checkedTags (tags: Tags): Tags {
  for (const name of Object.keys(tags)) {
    if (!tagNamePattern.test(name)) throw new TwinfoldError('invalid_field', `'tags' has a name that is not 1 to 64 characters of A-Z a-z 0-9 _ . : / -`, { field: 'tags' })
  }
  return tags
}
