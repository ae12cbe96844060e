// @platformatic/kafka.

import { address, library, main, tlsOptions } from './scenarios.mjs'

const { Admin, Consumer, Producer } = library('@platformatic/kafka')

const connection = (security, retries = 3) => ({
  clientId: 'weir-test',
  bootstrapBrokers: [address(security)],
  tls: tlsOptions(security),
  tlsServerName: security === 'plain' ? undefined : 'localhost',
  timeout: 5000,
  retries
})

const bytes = value => (value == null ? value : Buffer.from(value))

const client = {
  codecs: ['gzip', 'snappy', 'lz4', 'zstd'],
  nullHeader: false,
  manyHeaders: false,

  async createTopic(name, partitions, configs, security) {
    const admin = new Admin(connection(security, security === 'no-certificate' ? 0 : 3))
    try {
      const list = Object.entries(configs).map(([name, value]) => ({ name, value }))
      await admin.createTopics({ topics: [name], partitions, replicas: 1, configs: list })
    } finally {
      await admin.close()
    }
  },

  async producer({ security, codec, acks = -1 }) {
    const producer = new Producer({ ...connection(security), acks, idempotent: acks === -1, compression: codec })
    const message = ({ key, value, headers = [], partition, timestamp }) => {
      const sent = { key: bytes(key), value: bytes(value), headers: new Map(headers.map(([k, v]) => [bytes(k), bytes(v)])) }
      if (partition !== undefined) sent.partition = partition
      if (timestamp !== undefined) sent.timestamp = BigInt(timestamp)
      return sent
    }
    return {
      send: (topic, messages) => producer.send({ messages: messages.map(one => ({ topic, ...message(one) })) }),
      close: () => producer.close()
    }
  },

  async consumer({ topic, group, security, from, fetchBytesMax = 1 << 20 }) {
    const consumer = new Consumer({
      ...connection(security),
      groupId: group ?? `alone-${crypto.randomUUID()}`,
      autocommit: false,
      sessionTimeout: 10_000,
      heartbeatInterval: 500,
      rebalanceTimeout: 10_000,
      maxWaitTime: 100,
      maxBytesPerPartition: fetchBytesMax
    })
    const start = from === undefined
      ? { mode: 'committed', fallbackMode: 'earliest' }
      : { mode: 'manual', offsets: [{ topic, partition: 0, offset: BigInt(from) }] }
    const stream = await consumer.consume({ topics: [topic], ...start })
    const member = {
      records: [],
      failure: undefined,
      assigned: () => consumer.assignments?.flatMap(one => (one.topic === topic ? one.partitions : [])) ?? [],
      commit: (partition, offset) => consumer.commit({ offsets: [{ topic, partition, offset: BigInt(offset), leaderEpoch: -1 }] }),
      close: () => consumer.close(true)
    }
    stream.on('error', error => { member.failure = error })
    stream.on('data', ({ partition, offset, timestamp, key, value, headerEntries }) => {
      member.records.push({ partition, offset: Number(offset), timestamp: Number(timestamp), key, value, headers: headerEntries })
    })
    return member
  },

  async committed(topic, groupId) {
    const consumer = new Consumer({ ...connection('plain'), groupId })
    const found = await consumer.listCommittedOffsets({ topics: [{ topic, partitions: [0] }] })
    await consumer.close(true)
    return Number(found.get(topic)[0])
  },

  async offsetForTime(topic, timestamp) {
    const consumer = new Consumer({ ...connection('plain'), groupId: `alone-${crypto.randomUUID()}` })
    const found = await consumer.listOffsets({ topics: [topic], timestamp: BigInt(timestamp) })
    await consumer.close(true)
    return Number(found.get(topic)[0])
  }
}

await main(client)
