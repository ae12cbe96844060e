// What every client must be able to do, for the JavaScript clients: the scenarios of ../python/scenarios.py over a
// small adapter of each client. `PROGRAM SCENARIO…`; the broker comes from the same environment.
//
// An adapter has:
//   codecs                  the compression codecs that the client can send and read
//   nullHeader, manyHeaders whether a header may lack its value; whether a header's key may repeat
//   createTopic(name, partitions, configs, security)
//   producer({ security, codec, acks }) -> { send(topic, messages), close() }
//       message: { key, value, headers: [[key, value]], partition, timestamp }
//   consumer({ topic, group, security, from, fetchBytesMax }) -> { records, failure, assigned(), commit(partition, offset),
//       close() }; `from` is an offset in partition 0 for a consumer outside groups
//   committed(topic, group) and offsetForTime(topic, timestamp), both of partition 0

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as pause } from 'node:timers/promises'

const DEADLINE_MS = 40_000

// Libraries come from where set-up put them, not from the checkout.
export const library = createRequire(`${process.env.WEIR_TEST_CACHE}/node/`)

export function address(security) {
  const name = { plain: 'WEIR_TEST_BOOTSTRAP', tls: 'WEIR_TEST_TLS' }[security] ?? 'WEIR_TEST_MTLS'
  return process.env[name]
}

export function tlsOptions(security) {
  if (security === 'plain') return undefined
  const options = { ca: [readFileSync(process.env.WEIR_TEST_CA)] }
  if (security === 'mtls') {
    options.cert = readFileSync(process.env.WEIR_TEST_CERT)
    options.key = readFileSync(process.env.WEIR_TEST_KEY)
  }
  return options
}

const unique = name => `${name}-${randomUUID().slice(0, 13)}`
const text = bytes => (bytes == null ? null : Buffer.from(bytes).toString())
const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => from + index)

async function until(condition, what) {
  const end = performance.now() + DEADLINE_MS
  while (!(await condition())) {
    assert(performance.now() < end, `not so after ${DEADLINE_MS} ms: ${what}`)
    await pause(20)
  }
}

async function produce(client, topic, messages, options = {}) {
  const producer = await client.producer({ security: 'plain', ...options })
  await producer.send(topic, messages)
  await producer.close()
}

/// At least so many records of a new consumer, which is closed again.
async function readAll(client, count, options) {
  const consumer = await client.consumer({ security: 'plain', ...options })
  await until(() => healthy(consumer) && consumer.records.length >= count, `${count} records from ${options.topic}`)
  await consumer.close()
  return consumer.records
}

function healthy(...consumers) {
  for (const consumer of consumers) if (consumer.failure) throw consumer.failure
  return true
}

async function produceConsume(client, security = 'plain') {
  const topic = unique('plain')
  await client.createTopic(topic, 3, {}, security)
  const messages = numbers(0, 300).map(number => ({ key: `key-${number % 10}`, value: `value-${number}` }))
  await produce(client, topic, messages, { security })
  const records = await readAll(client, 300, { topic, security })
  assert.equal(records.length, 300)
  for (const partition of [0, 1, 2]) {
    const offsets = records.filter(r => r.partition === partition).map(r => r.offset)
    assert.deepEqual(offsets, numbers(0, offsets.length), `offsets of partition ${partition}`)
  }
  for (const key of numbers(0, 10).map(number => `key-${number}`)) {
    const mine = records.filter(r => text(r.key) === key)
    assert.equal(new Set(mine.map(r => r.partition)).size, 1, `partitions of ${key}`)
    assert.deepEqual(mine.map(r => text(r.value)), messages.filter(m => m.key === key).map(m => m.value), `values of ${key}`)
  }
}

async function acks(client) {
  const topic = unique('acks')
  await client.createTopic(topic, 1, {}, 'plain')
  for (const level of [0, 1, -1]) {
    await produce(client, topic, numbers(0, 10).map(number => ({ value: `${level}/${number}`, partition: 0 })), { acks: level })
  }
  const records = await readAll(client, 30, { topic })
  const expected = [0, 1, -1].flatMap(level => numbers(0, 10).map(number => `${level}/${number}`))
  assert.deepEqual(records.map(r => text(r.value)).sort(), expected.sort())
}

async function groupRebalance(client) {
  const [topic, group] = [unique('group'), unique('members')]
  await client.createTopic(topic, 4, {}, 'plain')
  const send = async word => {
    const values = numbers(0, 100).map(number => `${word}-${number}`)
    await produce(client, topic, values.map((value, index) => ({ value, partition: index % 4 })))
    return values
  }
  const seen = (...members) => new Set(members.flatMap(member => member.records.map(r => text(r.value))))
  const all = (values, ...members) => {
    const found = seen(...members)
    return values.every(value => found.has(value))
  }
  const first = await client.consumer({ topic, group, security: 'plain' })
  await until(() => healthy(first) && first.assigned().length === 4, 'the only member has all partitions')
  const alone = await send('alone')
  await until(() => healthy(first) && all(alone, first), 'the only member reads everything')
  const second = await client.consumer({ topic, group, security: 'plain' })
  await until(() => {
    const both = [...first.assigned(), ...second.assigned()]
    return healthy(first, second) && first.assigned().length === 2 && both.length === 4 && new Set(both).size === 4
  }, 'two members share the partitions')
  const shared = await send('shared')
  await until(() => healthy(first, second) && all(shared, first, second), 'two members read everything')
  // A member may still have been reading what is the other's now, and so have been the first to see all of it.
  for (const member of [first, second]) {
    const some = () => shared.some(value => seen(member).has(value))
    await until(() => healthy(member) && some(), 'a member with partitions reads something')
  }
  await second.close()
  await until(() => healthy(first) && first.assigned().length === 4, 'the member that stays gets all partitions back')
  const again = await send('again')
  await until(() => healthy(first) && all(again, first), 'the member that stays reads everything')
  await first.close()
}

async function commitResume(client) {
  const [topic, group] = [unique('commit'), unique('resume')]
  await client.createTopic(topic, 1, {}, 'plain')
  await produce(client, topic, numbers(0, 100).map(number => ({ value: `${number}`, partition: 0 })))
  const first = await client.consumer({ topic, group, security: 'plain' })
  await until(() => healthy(first) && first.records.length >= 40, '40 records')
  await first.commit(0, 40)
  await first.close()
  assert.equal(first.records[0].offset, 0)
  assert.equal(await client.committed(topic, group), 40)
  const second = await readAll(client, 60, { topic, group })
  assert.deepEqual(second.map(r => r.offset), numbers(40, 100), 'offsets after the committed one')
  const other = await readAll(client, 1, { topic, group: unique('other') })
  assert.equal(other[0].offset, 0)
}

async function seek(client) {
  const topic = unique('seek')
  await client.createTopic(topic, 1, {}, 'plain')
  const base = Date.now() - 600_000
  const stamped = number => ({ value: `${number}`, partition: 0, timestamp: base + number * 1000 })
  for (const start of [0, 25, 50, 75]) await produce(client, topic, numbers(start, start + 25).map(stamped))
  const from = async offset => (await readAll(client, 1, { topic, from: offset }))[0]
  const middle = await from(37)
  assert.deepEqual([middle.offset, text(middle.value), middle.timestamp], [37, '37', base + 37_000])
  assert.equal((await from(0)).offset, 0)
  assert.equal(await client.offsetForTime(topic, base), 0)
  assert.equal(await client.offsetForTime(topic, base + 50_000), 50)
  assert.equal(await client.offsetForTime(topic, base + 50_500), 51)
  assert.equal((await from(await client.offsetForTime(topic, base + 50_500))).offset, 51)
}

async function compression(client) {
  for (const codec of client.codecs) {
    const topic = unique(`codec-${codec}`)
    await client.createTopic(topic, 1, {}, 'plain')
    const values = numbers(0, 200).map(number => `${number} ${'the same words again and again '.repeat(40)}`)
    await produce(client, topic, values.map(value => ({ value, partition: 0 })), { codec })
    const records = await readAll(client, 200, { topic })
    assert.deepEqual(records.map(r => text(r.value)), values, codec)
  }
}

async function headersNulls(client) {
  const topic = unique('headers')
  await client.createTopic(topic, 1, {}, 'plain')
  const headers = [['a', '1'], ['empty', ''], ['ü', 'größe']]
  if (client.manyHeaders) headers.push(['b', '2'], ['b', '3'])
  if (client.nullHeader) headers.push(['null', null])
  const sent = [
    { key: null, value: 'no key', headers: [] },
    { key: 'no value', value: null, headers: [] },
    { key: '', value: '', headers: [] },
    { key: null, value: null, headers: [] },
    { key: 'with headers', value: 'value', headers }
  ]
  await produce(client, topic, sent.map(message => ({ ...message, partition: 0 })))
  const records = await readAll(client, sent.length, { topic })
  const found = records.map(r => ({ key: text(r.key), value: text(r.value), headers: r.headers.map(([k, v]) => [text(k), text(v)]) }))
  assert.deepEqual(found, sent)
}

async function large(client) {
  const topic = unique('large')
  await client.createTopic(topic, 1, { 'max.message.bytes': `${2 << 20}` }, 'plain')
  const values = numbers(0, 4).map(() => randomBytes(1 << 20))
  for (const value of values) await produce(client, topic, [{ value, partition: 0 }])
  const records = await readAll(client, 4, { topic, fetchBytesMax: 2 << 20 })
  records.forEach((record, index) => assert(values[index].equals(record.value), 'a record of 1 MiB came back changed'))
}

const tls = client => produceConsume(client, 'tls')

async function mutualTls(client) {
  await produceConsume(client, 'mtls')
  await assert.rejects(client.createTopic(unique('refused'), 1, {}, 'no-certificate'), error => {
    console.log(`  without a certificate: ${error}`)
    return true
  })
}

const SCENARIOS = {
  produce_consume: produceConsume,
  acks,
  group_rebalance: groupRebalance,
  commit_resume: commitResume,
  seek,
  compression,
  headers_nulls: headersNulls,
  large,
  tls,
  mutual_tls: mutualTls
}

export async function main(client) {
  const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(SCENARIOS)
  let failed = false
  for (const name of names) {
    const started = performance.now()
    let word = 'ok'
    try {
      assert(SCENARIOS[name], `unknown scenario ${name}; there are ${Object.keys(SCENARIOS)}`)
      await SCENARIOS[name](client)
    } catch (error) {
      console.error(error)
      failed = true
      word = 'FAILED'
    }
    console.log(`${word} ${name} ${((performance.now() - started) / 1000).toFixed(1)} s`)
  }
  // Without waiting for what a failed scenario left open.
  process.exit(failed ? 1 : 0)
}
