// An open loop on Kafka's own clients: records are due at fixed instants, whether or not earlier ones were answered, and
// every latency counts from the instant at which its record was due. What stalls is charged with all that it kept waiting.
//
//   java -cp 'LIB/*' OpenLoop.java BOOTSTRAP TOPIC RECORDS_PER_S WARM_S SECONDS RECORD_BYTES acks|e2e [KEY=VALUE …]
//
// A key is a producer's, or with the prefix `consumer.` the consumer's. The first WARM_S seconds are left out of the
// latencies; with `acks` nothing is consumed. Prints one line of JSON: milliseconds to the acknowledgement (ack_ms), and to a consumer in this program,
// under the same clock (e2e_ms).

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

public class OpenLoop {
  static final long SECOND = 1_000_000_000L;
  static final long MAX_US = 600_000_000L;
  static final AtomicLong acked = new AtomicLong(), failed = new AtomicLong(), seen = new AtomicLong();
  static volatile boolean over = false;

  public static void main(String[] a) throws Exception {
    String bootstrap = a[0], topic = a[1];
    long rate = Long.parseLong(a[2]), warm = Long.parseLong(a[3]), seconds = Long.parseLong(a[4]);
    int size = Integer.parseInt(a[5]);
    boolean consumes = a[6].equals("e2e");
    Properties producing = new Properties(), consuming = new Properties();
    producing.put("bootstrap.servers", bootstrap);
    consuming.put("bootstrap.servers", bootstrap);
    for (String pair : Arrays.copyOfRange(a, 7, a.length)) {
      String[] parts = pair.split("=", 2);
      if (parts[0].startsWith("consumer.")) consuming.put(parts[0].substring("consumer.".length()), parts[1]);
      else producing.put(parts[0], parts[1]);
    }
    Histogram acks = new ConcurrentHistogram(MAX_US, 3), ends = new Histogram(MAX_US, 3);
    KafkaConsumer<byte[], byte[]> consumer =
        new KafkaConsumer<>(consuming, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    List<TopicPartition> partitions = new ArrayList<>();
    for (PartitionInfo one : consumer.partitionsFor(topic)) partitions.add(new TopicPartition(topic, one.partition()));
    consumer.assign(partitions);
    consumer.seekToEnd(partitions);
    for (TopicPartition one : partitions) consumer.position(one);
    KafkaProducer<byte[], byte[]> producer =
        new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
    producer.partitionsFor(topic);

    long start = System.nanoTime() + SECOND / 5, counted = start + warm * SECOND, total = rate * (warm + seconds);
    Thread reader = new Thread(() -> read(consumer, counted, ends));
    if (consumes) reader.start();
    byte[] noise = new byte[size];
    new Random(1).nextBytes(noise);
    for (long i = 0; i < total; i++) {
      long due = start + (long) (i * ((double) SECOND / rate)), wait;
      while ((wait = due - System.nanoTime()) > 0) LockSupport.parkNanos(wait);
      byte[] value = noise.clone();
      ByteBuffer.wrap(value).putLong(due);
      producer.send(new ProducerRecord<>(topic, value), (metadata, error) -> {
        if (error != null) failed.incrementAndGet();
        else {
          acked.incrementAndGet();
          if (due >= counted) acks.recordValue(Math.min(MAX_US, (System.nanoTime() - due) / 1000));
        }
      });
    }
    producer.flush();
    double took = (System.nanoTime() - start) / (double) SECOND;
    producer.close();
    long deadline = System.nanoTime() + 30 * SECOND;
    while (consumes && seen.get() < acked.get() && System.nanoTime() < deadline) Thread.sleep(5);
    over = true;
    if (consumes) reader.join();
    else seen.set(acked.get());
    System.out.printf(Locale.ROOT,
        "{\"acked\":%d,\"failed\":%d,\"seen\":%d,\"mib_per_s\":%.3f,\"ack_ms\":%s,\"e2e_ms\":%s}%n",
        acked.get(), failed.get(), seen.get(), acked.get() * (double) size / took / (1 << 20), json(acks), json(ends));
  }

  static void read(KafkaConsumer<byte[], byte[]> consumer, long counted, Histogram ends) {
    while (!over) {
      for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
        long due = ByteBuffer.wrap(record.value()).getLong(), now = System.nanoTime();
        seen.incrementAndGet();
        if (due >= counted) ends.recordValue(Math.min(MAX_US, Math.max(0, (now - due) / 1000)));
      }
    }
    consumer.close();
  }

  static String json(Histogram h) {
    return String.format(Locale.ROOT, "{\"n\":%d,\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}", h.getTotalCount(),
        h.getValueAtPercentile(50) / 1e3, h.getValueAtPercentile(99) / 1e3, h.getValueAtPercentile(99.9) / 1e3,
        h.getMaxValue() / 1e3);
  }
}
