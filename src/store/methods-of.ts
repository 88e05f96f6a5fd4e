/** Puts the methods of several parts side by side in one object, as a store is made. */

export type Methods<T, K extends keyof T> = { [Name in K]: T[Name] }

/** The named methods, bound, so that they can stand in another object. */
export function methodsOf<T extends object, K extends keyof T> (part: T, names: readonly K[]): Methods<T, K> {
  const methods: Partial<Methods<T, K>> = {}
  for (const name of names) methods[name] = (part[name] as (...args: unknown[]) => unknown).bind(part) as T[K]
  return methods as Methods<T, K>
}
