// franz-go: codecs, idempotence, groups of both protocols, transactions, administration. `franz BOOTSTRAP`
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "playhouse.stream/clients/check"
)

var bootstrap = os.Args[1]

func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	time.AfterFunc(30*time.Second, cancel)
	return ctx
}

func client(options ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, options...)...)
	Must(err)
	return cl
}

var admin = kadm.NewClient(client())

func create(topic string, partitions int32) {
	_, err := admin.CreateTopic(within(), partitions, 1, nil, topic)
	Must(err)
	Until("the topic is there", func() bool {
		listed, err := admin.ListEndOffsets(within(), topic)
		return err == nil && listed.Error() == nil && len(listed[topic]) == int(partitions)
	})
}

func produce(cl *kgo.Client, topic string, values []string) {
	for _, value := range values {
		record := &kgo.Record{Topic: topic, Key: []byte(value), Value: []byte(value)}
		record.Headers = []kgo.RecordHeader{{Key: "header", Value: []byte(value)}}
		cl.Produce(within(), record, nil)
	}
	Must(cl.Flush(within()))
}

func numbered(prefix string, count int) (values []string) {
	for number := range count {
		values = append(values, fmt.Sprintf("%s %03d", prefix, number))
	}
	return values
}

// consume reads so many values, and a moment longer, so that one too many is seen as well.
func consume(cl *kgo.Client, count int) (values []string) {
	deadline := time.Now().Add(30 * time.Second)
	for len(values) < count && time.Now().Before(deadline) {
		values = append(values, poll(cl, time.Second)...)
	}
	values = append(values, poll(cl, 300*time.Millisecond)...)
	sort.Strings(values)
	return values
}

func poll(cl *kgo.Client, patience time.Duration) (values []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fetches := cl.PollFetches(ctx)
	fetches.EachError(func(_ string, _ int32, err error) {
		if err != context.DeadlineExceeded {
			Must(err)
		}
	})
	fetches.EachRecord(func(record *kgo.Record) { values = append(values, string(record.Value)) })
	return values
}

func main() {
	Run("franz.codecs", func() error {
		topic, sent := Name("franz-codecs"), []string{}
		create(topic, 3)
		codecs := map[string]kgo.CompressionCodec{
			"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
			"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
		}
		for name, codec := range codecs {
			producer := client(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond))
			values := numbered(name, 200)
			produce(producer, topic, values)
			producer.Close()
			sent = append(sent, values...)
		}
		sort.Strings(sent)
		reader := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer reader.Close()
		Equal(consume(reader, len(sent)), sent)
		return nil
	})

	for _, acks := range []struct {
		name    string
		options []kgo.Opt
	}{
		{"leader", []kgo.Opt{kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()}},
		{"none", []kgo.Opt{kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()}},
	} {
		Run("franz.acks."+acks.name, func() error {
			topic := Name("franz-acks-" + acks.name)
			create(topic, 1)
			producer := client(acks.options...)
			produce(producer, topic, numbered("record", 50))
			producer.Close()
			reader := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			defer reader.Close()
			Equal(consume(reader, 50), numbered("record", 50))
			return nil
		})
	}

	balancers := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "sticky": kgo.StickyBalancer(), "cooperative": kgo.CooperativeStickyBalancer(),
	}
	for name, balancer := range balancers {
		Run("franz.group."+name, func() error { return share("franz-"+name, kgo.Balancers(balancer)) })
	}
	Run("franz.group.newer", func() error {
		return share("franz-newer", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	})
	Run("franz.transactions", transactions)
	Run("franz.transactions.fenced", fenced)
	Run("franz.admin", administration)
	Run("franz.offsets", offsets)
	Run("franz.deleted", deleted)
}

// holder counts what a member of a group holds.
type holder struct{ held atomic.Int64 }

func (it *holder) options() []kgo.Opt {
	count := func(sign int64) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			for _, partitions := range topics {
				it.held.Add(sign * int64(len(partitions)))
			}
		}
	}
	return []kgo.Opt{kgo.OnPartitionsAssigned(count(1)), kgo.OnPartitionsRevoked(count(-1)), kgo.OnPartitionsLost(count(-1))}
}

// share has two members that read a topic together; one leaves, the other gets it all.
func share(what string, options ...kgo.Opt) error {
	topic, group := Name(what), Name(what)
	create(topic, 4)
	member := func(holder *holder) *kgo.Client {
		options := append(append(options, holder.options()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
			kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.HeartbeatInterval(200*time.Millisecond))
		return client(options...)
	}
	var one, two holder
	first, second := member(&one), member(&two)
	defer second.Close()
	Until("two members share", func() bool {
		poll(first, 50*time.Millisecond)
		poll(second, 50*time.Millisecond)
		return one.held.Load() == 2 && two.held.Load() == 2
	})
	producer := client()
	defer producer.Close()
	produce(producer, topic, numbered("record", 200))
	seen := []string{}
	Until("both have read", func() bool {
		seen = append(append(seen, poll(first, 100*time.Millisecond)...), poll(second, 100*time.Millisecond)...)
		return len(seen) >= 200
	})
	sort.Strings(seen)
	Equal(seen, numbered("record", 200))
	Must(first.CommitUncommittedOffsets(within()))
	Must(second.CommitUncommittedOffsets(within()))
	lag, err := admin.Lag(within(), group)
	Must(err)
	Equal(lag[group].Lag.Total(), int64(0))
	first.Close()
	Until("one has it all", func() bool {
		Equal(len(poll(second, 50*time.Millisecond)), 0)
		return two.held.Load() == 4
	})
	produce(producer, topic, numbered("more", 40))
	Equal(consume(second, 40), numbered("more", 40))
	return nil
}

// transactions copies a topic exactly once, offsets and all; what is aborted is read again and seen once.
func transactions() error {
	source, target, group := Name("franz-source"), Name("franz-target"), Name("franz-transactions")
	create(source, 2)
	create(target, 2)
	producer := client()
	produce(producer, source, numbered("record", 100))
	producer.Close()
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.TransactionalID(Name("franz")), kgo.ConsumerGroup(group), kgo.ConsumeTopics(source),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RequireStableFetchOffsets(),
	)
	Must(err)
	copied, turns := 0, 0
	for copied < 100 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		fetches := session.PollRecords(ctx, 30)
		cancel()
		Must(fetches.Err())
		Must(session.Begin())
		fetches.EachRecord(func(record *kgo.Record) {
			session.Produce(within(), &kgo.Record{Topic: target, Key: record.Key, Value: record.Value}, nil)
		})
		turns++
		committed, err := session.End(within(), kgo.TransactionEndTry(turns%2 == 0))
		Must(err)
		if committed {
			copied += fetches.NumRecords()
		}
	}
	session.Close()
	reader := client(kgo.ConsumeTopics(target), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	Equal(consume(reader, 100), numbered("record", 100))
	lag, err := admin.Lag(within(), group)
	Must(err)
	Equal(lag[group].Lag.Total(), int64(0))
	return nil
}

func fenced() error {
	topic, id := Name("franz-fenced"), Name("franz-fenced")
	create(topic, 1)
	older, newer := client(kgo.TransactionalID(id)), client(kgo.TransactionalID(id))
	defer older.Close()
	defer newer.Close()
	Must(older.BeginTransaction())
	Must(older.ProduceSync(within(), &kgo.Record{Topic: topic, Value: []byte("older")}).FirstErr())
	Must(newer.BeginTransaction())
	Must(newer.ProduceSync(within(), &kgo.Record{Topic: topic, Value: []byte("newer")}).FirstErr())
	Must(newer.EndTransaction(within(), kgo.TryCommit))
	err := older.ProduceSync(within(), &kgo.Record{Topic: topic, Value: []byte("late")}).FirstErr()
	if err == nil {
		err = older.EndTransaction(within(), kgo.TryCommit)
	}
	Equal(err != nil, true)
	reader := client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	Equal(consume(reader, 1), []string{"newer"})
	return nil
}

func administration() error {
	topic := Name("franz-admin")
	create(topic, 2)
	_, err := admin.CreateTopic(within(), 2, 1, nil, topic)
	Is(err, kerr.TopicAlreadyExists)
	grown, err := admin.UpdatePartitions(within(), 4, topic)
	Must(err)
	Must(grown.Error())
	Until("it has grown", func() bool {
		details, err := admin.ListTopics(within(), topic)
		return err == nil && len(details[topic].Partitions) == 4
	})
	value := "123456"
	altered, err := admin.AlterTopicConfigs(within(), []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, topic)
	Must(err)
	Must(altered[0].Err)
	Until("it is altered", func() bool {
		described, err := admin.DescribeTopicConfigs(within(), topic)
		if err != nil || described[0].Err != nil {
			return false
		}
		for _, config := range described[0].Configs {
			if config.Key == "retention.ms" && config.MaybeValue() == value {
				return true
			}
		}
		return false
	})
	brokers, err := admin.ListBrokers(within())
	Must(err)
	Equal(len(brokers), 1)
	dirs, err := admin.DescribeAllLogDirs(within(), nil)
	Must(err)
	dirs.Each(func(described kadm.DescribedLogDir) { Must(described.Err) })
	deleted, err := admin.DeleteTopics(within(), topic)
	Must(err)
	Must(deleted.Error())
	again, err := admin.DeleteTopics(within(), topic)
	Must(err)
	Is(again[topic].Err, kerr.UnknownTopicOrPartition)
	return nil
}

func offsets() error {
	topic, group := Name("franz-offsets"), Name("franz-offsets")
	create(topic, 1)
	producer := client()
	produce(producer, topic, numbered("record", 10))
	producer.Close()
	commit := kadm.Offsets{}
	commit.Add(kadm.Offset{Topic: topic, Partition: 0, At: 4, LeaderEpoch: -1, Metadata: "here"})
	Must(admin.CommitAllOffsets(within(), group, commit))
	fetched, err := admin.FetchOffsets(within(), group)
	Must(err)
	found, _ := fetched.Lookup(topic, 0)
	Equal([]any{found.At, found.Metadata}, []any{int64(4), "here"})
	remove := kadm.Offsets{}
	remove.Add(kadm.Offset{Topic: topic, Partition: 0, At: 3})
	removed, err := admin.DeleteRecords(within(), remove)
	Must(err)
	Must(removed.Error())
	starts, err := admin.ListStartOffsets(within(), topic)
	Must(err)
	ends, err := admin.ListEndOffsets(within(), topic)
	Must(err)
	Equal([]int64{starts[topic][0].Offset, ends[topic][0].Offset}, []int64{3, 10})
	_, err = admin.DeleteGroup(within(), group)
	Must(err)
	_, err = admin.DeleteGroup(within(), group)
	Is(err, kerr.GroupIDNotFound)
	return nil
}

// deleted has a topic deleted and made again under a reader's feet: by its id it is another one.
func deleted() error {
	topic := Name("franz-deleted")
	create(topic, 1)
	producer := client(kgo.UnknownTopicRetries(-1))
	defer producer.Close()
	produce(producer, topic, numbered("before", 5))
	gone, err := admin.DeleteTopics(within(), topic)
	Must(err)
	Must(gone.Error())
	Until("it can be made again", func() bool {
		_, err := admin.CreateTopic(within(), 1, 1, nil, topic)
		return err == nil
	})
	fresh := client()
	defer fresh.Close()
	produce(fresh, topic, numbered("after", 5))
	reader := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	Equal(consume(reader, 5), numbered("after", 5))
	return nil
}
