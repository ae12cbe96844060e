// franz-go: the scenarios of ../python/scenarios.py with this client. `franz-go SCENARIO…`; the broker comes from the
// same environment.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const deadline = 40 * time.Second

// addresses of the broker's listeners, by kind of connection.
var addresses = map[string]string{
	"plain":          "WEIR_TEST_BOOTSTRAP",
	"tls":            "WEIR_TEST_TLS",
	"mtls":           "WEIR_TEST_MTLS",
	"no-certificate": "WEIR_TEST_MTLS",
}

// failure ends a scenario.
type failure struct{ error }

func check(err error, what string) {
	if err != nil {
		panic(failure{fmt.Errorf("%s: %w", what, err)})
	}
}

func same[T any](found, expected T, what string) {
	if f, e := fmt.Sprintf("%+q", any(found)), fmt.Sprintf("%+q", any(expected)); f != e {
		panic(failure{fmt.Errorf("%s: found %.2000s, expected %.2000s", what, f, e)})
	}
}

func until(condition func() bool, what string) {
	for end := time.Now().Add(deadline); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic(failure{fmt.Errorf("not so after %s: %s", deadline, what)})
		}
	}
}

func unique(name string) string { return fmt.Sprintf("%s-%d", name, time.Now().UnixNano()) }

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), deadline)
}

// connect makes a client for a kind of connection.
func connect(security string, options ...kgo.Opt) *kgo.Client {
	all := []kgo.Opt{kgo.SeedBrokers(os.Getenv(addresses[security]))}
	if security != "plain" {
		config := &tls.Config{RootCAs: x509.NewCertPool()}
		authority, err := os.ReadFile(os.Getenv("WEIR_TEST_CA"))
		check(err, "the CA")
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			panic(failure{errors.New("the CA's file holds no certificate")})
		}
		if security == "mtls" {
			pair, err := tls.LoadX509KeyPair(os.Getenv("WEIR_TEST_CERT"), os.Getenv("WEIR_TEST_KEY"))
			check(err, "the client's identity")
			config.Certificates = []tls.Certificate{pair}
		}
		all = append(all, kgo.DialTLSConfig(config))
	}
	client, err := kgo.NewClient(append(all, options...)...)
	check(err, "client")
	return client
}

func createTopic(name string, partitions int32, configs map[string]*string, security string) {
	client := connect(security)
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	created, err := kadm.NewClient(client).CreateTopics(ctx, partitions, 1, configs, name)
	check(err, "create topic")
	check(created[name].Err, "create topic "+name)
}

func produce(security string, records []*kgo.Record, options ...kgo.Opt) []*kgo.Record {
	client := connect(security, options...)
	defer client.Close()
	ctx, cancel := within()
	defer cancel()
	results := client.ProduceSync(ctx, records...)
	check(results.FirstErr(), "produce")
	return records
}

// poll gives what comes until there are so many records.
func poll(client *kgo.Client, count int) []*kgo.Record {
	ctx, cancel := within()
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			check(err, fmt.Sprintf("%d of %d records", len(records), count))
		}
		fetches.EachError(func(topic string, partition int32, err error) { check(err, "fetch") })
		records = append(records, fetches.Records()...)
	}
	return records
}

func consume(security string, count int, options ...kgo.Opt) []*kgo.Record {
	client := connect(security, append([]kgo.Opt{kgo.FetchMaxWait(100 * time.Millisecond)}, options...)...)
	defer client.Close()
	return poll(client, count)
}

var scenarios = []struct {
	name string
	run  func()
}{
	{"produce_consume", func() { produceConsume("plain") }},
	{"acks", acks},
	{"group_rebalance", groupRebalance},
	{"commit_resume", commitResume},
	{"seek", seek},
	{"compression", compression},
	{"headers_nulls", headersNulls},
	{"large", large},
	{"tls", func() { produceConsume("tls") }},
	{"mutual_tls", mutualTLS},
}

func run(scenario func()) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			failed, ok := caught.(failure)
			if !ok {
				panic(caught)
			}
			err = failed
		}
	}()
	scenario()
	return nil
}

func main() {
	names := os.Args[1:]
	if len(names) == 0 {
		for _, scenario := range scenarios {
			names = append(names, scenario.name)
		}
	}
	code := 0
	for _, name := range names {
		started := time.Now()
		err := errors.New("unknown scenario")
		for _, scenario := range scenarios {
			if scenario.name == name {
				err = run(scenario.run)
			}
		}
		word := "ok"
		if err != nil {
			fmt.Println(err)
			word, code = "FAILED", 1
		}
		fmt.Printf("%s %s %.1f s\n", word, name, time.Since(started).Seconds())
	}
	os.Exit(code)
}
