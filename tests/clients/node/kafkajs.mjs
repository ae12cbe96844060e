// kafkajs.

import zlib from 'node:zlib'

import { address, library, main, tlsOptions } from './scenarios.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = library('kafkajs')
const lz4 = library('lz4-napi')
const snappy = library('snappyjs')

// The library brings gzip; the others are for its users to plug in.
const plug = (type, compress, decompress) => {
  CompressionCodecs[type] = () => ({ compress: async encoder => compress(encoder.buffer), decompress: async bytes => decompress(bytes) })
}
plug(CompressionTypes.Snappy, bytes => Buffer.from(snappy.compress(bytes)), bytes => Buffer.from(snappy.uncompress(bytes)))
plug(CompressionTypes.LZ4, lz4.compressFrameSync, lz4.decompressFrameSync)
plug(CompressionTypes.ZSTD, zlib.zstdCompressSync, zlib.zstdDecompressSync)

const CODECS = { gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

const kafka = (security, retries = 5) =>
  new Kafka({ brokers: [address(security)], ssl: tlsOptions(security), logLevel: logLevel.NOTHING, retry: { retries } })

async function withAdmin(work, ...settings) {
  const admin = kafka(...settings).admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

const client = {
  codecs: Object.keys(CODECS),
  nullHeader: false,
  manyHeaders: true,

  async createTopic(topic, numPartitions, configs, security) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const topics = [{ topic, numPartitions, replicationFactor: 1, configEntries }]
    await withAdmin(admin => admin.createTopics({ topics }), security, security === 'no-certificate' ? 1 : 5)
  },

  async producer({ security, codec, acks = -1 }) {
    const producer = kafka(security).producer({ idempotent: acks === -1 })
    await producer.connect()
    const message = ({ headers = [], timestamp, ...rest }) => {
      const grouped = {}
      for (const [key, value] of headers) (grouped[key] ??= []).push(value)
      const sent = { ...rest, headers: Object.fromEntries(Object.entries(grouped).map(([k, v]) => [k, v.length > 1 ? v : v[0]])) }
      return timestamp ? { ...sent, timestamp: `${timestamp}` } : sent
    }
    return {
      send: (topic, messages) => producer.send({ topic, acks, compression: CODECS[codec], messages: messages.map(message) }),
      close: () => producer.disconnect()
    }
  },

  async consumer({ topic, group, security, from, fetchBytesMax = 1 << 20 }) {
    const groupId = group ?? `alone-${crypto.randomUUID()}`
    const consumer = kafka(security).consumer({
      groupId,
      sessionTimeout: 10_000,
      heartbeatInterval: 500,
      rebalanceTimeout: 10_000,
      maxWaitTimeInMs: 100,
      maxBytesPerPartition: fetchBytesMax
    })
    let assigned = []
    const member = {
      records: [],
      failure: undefined,
      assigned: () => assigned,
      commit: (partition, offset) => consumer.commitOffsets([{ topic, partition, offset: `${offset}` }]),
      close: () => consumer.disconnect()
    }
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { assigned = payload.memberAssignment[topic] ?? [] })
    consumer.on(consumer.events.CRASH, ({ payload }) => { member.failure = payload.restart ? undefined : payload.error })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    let sought = from === undefined
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        // What was fetched before the seek is not what was asked for.
        sought ||= Number(message.offset) === from
        if (!sought) return
        const headers = Object.entries(message.headers).flatMap(([key, values]) => [values].flat().map(value => [key, value]))
        member.records.push({
          partition,
          offset: Number(message.offset),
          timestamp: Number(message.timestamp),
          key: message.key,
          value: message.value,
          headers
        })
      }
    })
    if (from !== undefined) consumer.seek({ topic, partition: 0, offset: `${from}` })
    return member
  },

  async committed(topic, groupId) {
    const [found] = await withAdmin(admin => admin.fetchOffsets({ groupId, topics: [topic] }), 'plain')
    return Number(found.partitions[0].offset)
  },

  async offsetForTime(topic, timestamp) {
    const [found] = await withAdmin(admin => admin.fetchTopicOffsetsByTimestamp(topic, timestamp), 'plain')
    return Number(found.offset)
  }
}

await main(client)
