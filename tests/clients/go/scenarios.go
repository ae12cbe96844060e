package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func texts(word string, from, to int) []string {
	var found []string
	for number := from; number < to; number++ {
		found = append(found, fmt.Sprintf("%s%d", word, number))
	}
	return found
}

func values(records []*kgo.Record) []string {
	var found []string
	for _, record := range records {
		found = append(found, string(record.Value))
	}
	return found
}

func produceConsume(security string) {
	topic := unique("plain")
	createTopic(topic, 3, nil, security)
	var sent []*kgo.Record
	for number := range 300 {
		record := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key-%d", number%10), Value: fmt.Appendf(nil, "value-%d", number)}
		sent = append(sent, record)
	}
	produce(security, sent)
	found := consume(security, 300, kgo.ConsumeTopics(topic))
	same(len(found), 300, "number of records")
	next := map[int32]int64{}
	for _, record := range found {
		same(record.Offset, next[record.Partition], "offset")
		next[record.Partition]++
	}
	place := func(record *kgo.Record) string {
		return fmt.Sprintf("%d/%d %s %s", record.Partition, record.Offset, record.Key, record.Value)
	}
	places := func(records []*kgo.Record) []string {
		var all []string
		for _, record := range records {
			all = append(all, place(record))
		}
		slices.Sort(all)
		return all
	}
	same(places(found), places(sent), "places of the records")
	for key := range 10 {
		of := func(records []*kgo.Record) []string {
			var mine []string
			for _, record := range records {
				if string(record.Key) == fmt.Sprintf("key-%d", key) {
					mine = append(mine, string(record.Value))
				}
			}
			return mine
		}
		same(of(found), of(sent), fmt.Sprintf("values of key-%d", key))
	}
}

func acks() {
	topic := unique("acks")
	createTopic(topic, 1, nil, "plain")
	var expected []string
	for name, level := range map[string]kgo.Acks{"none": kgo.NoAck(), "leader": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		var records []*kgo.Record
		for _, text := range texts(name, 0, 10) {
			records = append(records, &kgo.Record{Topic: topic, Value: []byte(text)})
			expected = append(expected, text)
		}
		options := []kgo.Opt{kgo.RequiredAcks(level)}
		if name != "all" {
			options = append(options, kgo.DisableIdempotentWrite())
		}
		produce("plain", records, options...)
	}
	found := values(consume("plain", 30, kgo.ConsumeTopics(topic)))
	slices.Sort(found)
	slices.Sort(expected)
	same(found, expected, "values")
}

// member of a group, polled as an application would.
type member struct {
	client     *kgo.Client
	lock       sync.Mutex
	partitions map[int32]bool
	seen       map[string]bool
	done       chan struct{}
}

func join(topic, group string) *member {
	m := &member{partitions: map[int32]bool{}, seen: map[string]bool{}, done: make(chan struct{})}
	change := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partition := range changed[topic] {
				if has {
					m.partitions[partition] = true
				} else {
					delete(m.partitions, partition)
				}
			}
		}
	}
	m.client = connect("plain", kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.HeartbeatInterval(500*time.Millisecond), kgo.SessionTimeout(10*time.Second),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	go func() {
		defer close(m.done)
		for {
			fetches := m.client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			m.lock.Lock()
			for _, record := range fetches.Records() {
				m.seen[string(record.Value)] = true
			}
			m.lock.Unlock()
		}
	}()
	return m
}

func (m *member) has() int {
	m.lock.Lock()
	defer m.lock.Unlock()
	return len(m.partitions)
}

func (m *member) saw(value string) bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.seen[value]
}

func (m *member) leave() {
	m.client.Close()
	<-m.done
}

func groupRebalance() {
	topic, group := unique("group"), unique("members")
	createTopic(topic, 4, nil, "plain")
	send := func(word string) []string {
		var records []*kgo.Record
		for index, text := range texts(word, 0, 100) {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(index % 4), Value: []byte(text)})
		}
		produce("plain", records, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		return texts(word, 0, 100)
	}
	all := func(sent []string, members ...*member) func() bool {
		return func() bool {
			return !slices.ContainsFunc(sent, func(value string) bool {
				return !slices.ContainsFunc(members, func(m *member) bool { return m.saw(value) })
			})
		}
	}
	first := join(topic, group)
	defer first.leave()
	until(func() bool { return first.has() == 4 }, "the only member has all partitions")
	until(all(send("alone-"), first), "the only member reads everything")
	second := join(topic, group)
	until(func() bool { return first.has() == 2 && second.has() == 2 }, "two members share the partitions")
	shared := send("shared-")
	until(all(shared, first, second), "two members read everything")
	// A member may still have been reading what is the other's now, and so have been the first to see all of it.
	for _, m := range []*member{first, second} {
		until(func() bool { return slices.ContainsFunc(shared, m.saw) }, "a member with partitions reads something")
	}
	second.leave()
	until(func() bool { return first.has() == 4 }, "the member that stays gets all partitions back")
	until(all(send("again-"), first), "the member that stays reads everything")
}

func commitResume() {
	topic, group := unique("commit"), unique("resume")
	createTopic(topic, 1, nil, "plain")
	var records []*kgo.Record
	for _, text := range texts("", 0, 100) {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(text)})
	}
	produce("plain", records)
	options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.FetchMaxWait(100 * time.Millisecond)}
	first := connect("plain", options...)
	seen := poll(first, 40)
	same(seen[0].Offset, 0, "first offset of a new group")
	ctx, cancel := within()
	defer cancel()
	check(first.CommitRecords(ctx, seen[39]), "commit")
	first.Close()
	admin := connect("plain")
	defer admin.Close()
	committed, err := kadm.NewClient(admin).FetchOffsets(ctx, group)
	check(err, "committed offsets")
	found, _ := committed.Lookup(topic, 0)
	same(found.At, 40, "committed offset")
	rest := consume("plain", 60, options...)
	same(values(rest), texts("", 40, 100), "values after the committed offset")
}

func seek() {
	topic := unique("seek")
	createTopic(topic, 1, nil, "plain")
	base := time.Now().Add(-10 * time.Minute).UnixMilli()
	for start := 0; start < 100; start += 25 {
		var records []*kgo.Record
		for number := start; number < start+25; number++ {
			at := time.UnixMilli(base + int64(number)*1000)
			records = append(records, &kgo.Record{Topic: topic, Value: fmt.Append(nil, number), Timestamp: at})
		}
		produce("plain", records)
	}
	from := func(offset kgo.Offset) *kgo.Record {
		place := map[string]map[int32]kgo.Offset{topic: {0: offset}}
		record := consume("plain", 1, kgo.ConsumePartitions(place))[0]
		same(string(record.Value), fmt.Sprint(record.Offset), "value")
		same(record.Timestamp.UnixMilli(), base+record.Offset*1000, "timestamp")
		return record
	}
	same(from(kgo.NewOffset().At(37)).Offset, 37, "offset after a seek")
	same(from(kgo.NewOffset().AtStart()).Offset, 0, "offset at the start")
	same(from(kgo.NewOffset().AtEnd().Relative(-3)).Offset, 97, "the last three")
	same(from(kgo.NewOffset().AfterMilli(base+50_500)).Offset, 51, "offset after a seek by time")
	client := connect("plain")
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	for milli, offset := range map[int64]int64{base: 0, base + 50_000: 50, base + 50_500: 51} {
		listed, err := kadm.NewClient(client).ListOffsetsAfterMilli(ctx, milli, topic)
		check(err, "offset by time")
		found, _ := listed.Lookup(topic, 0)
		same(found.Offset, offset, "offset by time")
	}
	largest, err := kadm.NewClient(client).ListMaxTimestampOffsets(ctx, topic)
	check(err, "offset of the largest timestamp")
	found, _ := largest.Lookup(topic, 0)
	same(found.Offset, 99, "offset of the largest timestamp")
}

func compression() {
	codecs := map[string]kgo.CompressionCodec{
		"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		topic := unique("codec-" + name)
		createTopic(topic, 1, nil, "plain")
		var records []*kgo.Record
		for _, text := range texts(strings.Repeat("the same words again and again ", 40), 0, 200) {
			records = append(records, &kgo.Record{Topic: topic, Value: []byte(text)})
		}
		produce("plain", records, kgo.ProducerBatchCompression(codec))
		same(values(consume("plain", 200, kgo.ConsumeTopics(topic))), values(records), "values through "+name)
	}
}

func headersNulls() {
	topic := unique("headers")
	createTopic(topic, 1, nil, "plain")
	headers := []kgo.RecordHeader{
		{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "empty", Value: []byte{}},
		{Key: "null"}, {Key: "ü", Value: []byte("größe")},
	}
	sent := []*kgo.Record{
		{Topic: topic, Value: []byte("no key")},
		{Topic: topic, Key: []byte("no value")},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
		{Topic: topic},
		{Topic: topic, Key: []byte("with headers"), Value: []byte("value"), Headers: headers},
	}
	produce("plain", sent)
	show := func(records []*kgo.Record) []string {
		var shown []string
		part := func(bytes []byte) string {
			if bytes == nil {
				return "null"
			}
			return fmt.Sprintf("%q", bytes)
		}
		for _, record := range records {
			line := part(record.Key) + " " + part(record.Value)
			for _, header := range record.Headers {
				line += fmt.Sprintf(" %s=%s", header.Key, part(header.Value))
			}
			shown = append(shown, line)
		}
		return shown
	}
	same(show(consume("plain", len(sent), kgo.ConsumeTopics(topic))), show(sent), "keys, values and headers")
}

func large() {
	topic := unique("large")
	limit := fmt.Sprint(2 << 20)
	createTopic(topic, 1, map[string]*string{"max.message.bytes": &limit}, "plain")
	var records []*kgo.Record
	for range 4 {
		value := make([]byte, 1<<20)
		rand.Read(value)
		records = append(records, &kgo.Record{Topic: topic, Value: value})
	}
	produce("plain", records, kgo.ProducerBatchMaxBytes(2<<20-1024))
	for index, record := range consume("plain", 4, kgo.ConsumeTopics(topic)) {
		if !bytes.Equal(record.Value, records[index].Value) {
			panic(failure{fmt.Errorf("a record of 1 MiB came back changed")})
		}
	}
}

func mutualTLS() {
	produceConsume("mtls")
	client := connect("no-certificate", kgo.RequestRetries(1), kgo.RetryTimeout(3*time.Second))
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := client.Ping(ctx)
	if err == nil {
		panic(failure{fmt.Errorf("a client without a certificate was served")})
	}
	fmt.Println("  without a certificate:", err)
}
