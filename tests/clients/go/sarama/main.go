// sarama: codecs, idempotence, consumer groups, transactions, administration. `sarama BOOTSTRAP`
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "playhouse.stream/clients/check"
)

var addresses = []string{os.Args[1]}

func config(change ...func(*sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Return.Errors = true
	for _, it := range change {
		it(config)
	}
	return config
}

func administrator() sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin(addresses, config())
	Must(err)
	return admin
}

func create(topic string, partitions int32) {
	admin := administrator()
	defer admin.Close()
	Must(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	Until("the topic is there", func() bool {
		client, err := sarama.NewClient(addresses, config())
		Must(err)
		defer client.Close()
		for partition := range partitions {
			if _, err := client.GetOffset(topic, partition, sarama.OffsetNewest); err != nil {
				return false
			}
		}
		return true
	})
}

func numbered(prefix string, count int) (values []string) {
	for number := range count {
		values = append(values, fmt.Sprintf("%s %03d", prefix, number))
	}
	return values
}

func produce(topic string, values []string, change ...func(*sarama.Config)) {
	producer, err := sarama.NewSyncProducer(addresses, config(change...))
	Must(err)
	defer producer.Close()
	Must(producer.SendMessages(messages(topic, values)))
}

func messages(topic string, values []string) (messages []*sarama.ProducerMessage) {
	for _, value := range values {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(value), Value: sarama.StringEncoder(value),
			Headers: []sarama.RecordHeader{{Key: []byte("header"), Value: []byte(value)}},
		})
	}
	return messages
}

// reads everything below what is the end now, of all partitions.
func read(topic string, change ...func(*sarama.Config)) (values []string) {
	client, err := sarama.NewClient(addresses, config(change...))
	Must(err)
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	Must(err)
	defer consumer.Close()
	partitions, err := client.Partitions(topic)
	Must(err)
	for _, partition := range partitions {
		reader, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		Must(err)
		for idle := false; !idle; {
			select {
			case message := <-reader.Messages():
				values = append(values, string(message.Value))
			case err := <-reader.Errors():
				Must(err)
			case <-time.After(2 * time.Second):
				idle = true
			}
		}
		Must(reader.Close())
	}
	sort.Strings(values)
	return values
}

func main() {
	Run("sarama.codecs", func() error {
		topic, sent := Name("sarama-codecs"), []string{}
		create(topic, 2)
		for _, codec := range []sarama.CompressionCodec{
			sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4,
			sarama.CompressionZSTD,
		} {
			values := numbered(codec.String(), 200)
			produce(topic, values, func(config *sarama.Config) { config.Producer.Compression = codec })
			sent = append(sent, values...)
		}
		sort.Strings(sent)
		Equal(read(topic), sent)
		return nil
	})

	// What old clients negotiate: the oldest that speaks the batches of today, its own default, the newest.
	for _, version := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V1_0_0_0, sarama.V2_8_0_0, sarama.MaxVersion} {
		Run("sarama.version."+version.String(), func() error {
			topic, speaks := Name("sarama-version"+version.String()), func(config *sarama.Config) { config.Version = version }
			create(topic, 1)
			produce(topic, numbered("record", 50), speaks)
			Equal(read(topic, speaks), numbered("record", 50))
			return nil
		})
	}

	Run("sarama.idempotent", func() error {
		topic := Name("sarama-idempotent")
		create(topic, 2)
		produce(topic, numbered("record", 300), idempotent)
		Equal(read(topic), numbered("record", 300))
		return nil
	})

	strategies := map[string]sarama.BalanceStrategy{
		"range": sarama.NewBalanceStrategyRange(), "sticky": sarama.NewBalanceStrategySticky(),
	}
	for name, strategy := range strategies {
		Run("sarama.group."+name, func() error { return share("sarama-"+name, strategy) })
	}
	Run("sarama.transactions", transactions)
	Run("sarama.transactions.fenced", fenced)
	Run("sarama.admin", administration)
}

func idempotent(config *sarama.Config) {
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
}

// member is one of a group that counts what it holds and reads.
type member struct {
	lock sync.Mutex
	held int
	seen []string
}

func (it *member) Setup(session sarama.ConsumerGroupSession) error {
	it.lock.Lock()
	defer it.lock.Unlock()
	it.held = 0
	for _, partitions := range session.Claims() {
		it.held += len(partitions)
	}
	return nil
}

func (it *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (it *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			it.lock.Lock()
			it.seen = append(it.seen, string(message.Value))
			it.lock.Unlock()
			session.MarkMessage(message, "read")
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func (it *member) now() (held int, seen []string) {
	it.lock.Lock()
	defer it.lock.Unlock()
	return it.held, append([]string{}, it.seen...)
}

// start joins the group; what it returns leaves it.
func (it *member) start(group, topic string, strategy sarama.BalanceStrategy) func() {
	consumers, err := sarama.NewConsumerGroup(addresses, group, config(func(config *sarama.Config) {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
		config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
		config.Consumer.Offsets.AutoCommit.Enable = false
	}))
	Must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := consumers.Consume(ctx, []string{topic}, it); err != nil {
				fmt.Fprintln(os.Stderr, err)
				time.Sleep(50 * time.Millisecond)
			}
		}
	})
	go func() {
		for err := range consumers.Errors() {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return func() {
		cancel()
		done.Wait()
		Must(consumers.Close())
	}
}

// share has two members that read a topic together; one leaves, the other gets it all.
func share(what string, strategy sarama.BalanceStrategy) error {
	topic, group := Name(what), Name(what)
	create(topic, 4)
	first, second := &member{}, &member{}
	leave := first.start(group, topic, strategy)
	defer second.start(group, topic, strategy)()
	Until("two members share", func() bool {
		one, _ := first.now()
		two, _ := second.now()
		return one == 2 && two == 2
	})
	produce(topic, numbered("record", 200))
	all := func() []string {
		_, one := first.now()
		_, two := second.now()
		values := append(one, two...)
		sort.Strings(values)
		return values
	}
	Until("both have read", func() bool { return len(all()) >= 200 })
	Equal(all(), numbered("record", 200))
	leave()
	produce(topic, numbered("more", 40))
	Until("one has read the rest", func() bool { return len(all()) >= 240 })
	Equal(all(), append(numbered("more", 40), numbered("record", 200)...))
	return nil
}

func transactional(id string) sarama.AsyncProducer {
	producer, err := sarama.NewAsyncProducer(addresses, config(idempotent, func(config *sarama.Config) {
		config.Producer.Transaction.ID = id
	}))
	Must(err)
	go func() {
		for range producer.Successes() {
		}
	}()
	go func() {
		for err := range producer.Errors() {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return producer
}

func committed(config *sarama.Config) { config.Consumer.IsolationLevel = sarama.ReadCommitted }

func transactions() error {
	topic, group := Name("sarama-transactions"), Name("sarama-transactions")
	create(topic, 2)
	producer := transactional(Name("sarama"))
	defer producer.Close()
	for turn := range 4 {
		Must(producer.BeginTxn())
		for _, message := range messages(topic, numbered(fmt.Sprintf("turn %d", turn), 20)) {
			producer.Input() <- message
		}
		offsets := map[string][]*sarama.PartitionOffsetMetadata{
			topic: {{Partition: 0, Offset: int64(turn + 1), LeaderEpoch: -1}},
		}
		Must(producer.AddOffsetsToTxn(offsets, group))
		if turn%2 == 0 {
			Must(producer.CommitTxn())
		} else {
			Must(producer.AbortTxn())
		}
	}
	wanted := append(numbered("turn 0", 20), numbered("turn 2", 20)...)
	Equal(read(topic, committed), wanted)
	admin := administrator()
	defer admin.Close()
	found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
	Must(err)
	Equal(found.GetBlock(topic, 0).Offset, int64(3))
	return nil
}

func fenced() error {
	topic, id := Name("sarama-fenced"), Name("sarama-fenced")
	create(topic, 1)
	older := transactional(id)
	defer older.Close()
	Must(older.BeginTxn())
	older.Input() <- messages(topic, []string{"older"})[0]
	newer := transactional(id)
	defer newer.Close()
	Must(newer.BeginTxn())
	newer.Input() <- messages(topic, []string{"newer"})[0]
	Must(newer.CommitTxn())
	Equal(older.CommitTxn() != nil, true)
	Equal(read(topic, committed), []string{"newer"})
	return nil
}

func administration() error {
	topic, group := Name("sarama-admin"), Name("sarama-admin")
	create(topic, 2)
	admin := administrator()
	defer admin.Close()
	err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	Equal(errors.Is(err, sarama.ErrTopicAlreadyExists), true)
	Must(admin.CreatePartitions(topic, 3, nil, false))
	Until("it has grown", func() bool {
		described, err := admin.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == 3
	})
	value := "4567"
	Must(admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false))
	Until("it is altered", func() bool {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
		return err == nil && len(entries) == 1 && entries[0].Value == value
	})
	brokers, _, err := admin.DescribeCluster()
	Must(err)
	Equal(len(brokers), 1)
	produce(topic, numbered("record", 10))
	manager := config()
	client, err := sarama.NewClient(addresses, manager)
	Must(err)
	defer client.Close()
	Must(admin.DeleteRecords(topic, map[int32]int64{0: 0}))
	offsets, err := sarama.NewOffsetManagerFromClient(group, client)
	Must(err)
	partition, err := offsets.ManagePartition(topic, 0)
	Must(err)
	partition.MarkOffset(1, "kept")
	Must(partition.Close())
	offsets.Commit()
	Must(offsets.Close())
	found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
	Must(err)
	Equal([]any{found.GetBlock(topic, 0).Offset, found.GetBlock(topic, 0).Metadata}, []any{int64(1), "kept"})
	groups, err := admin.ListConsumerGroups()
	Must(err)
	Equal(groups[group], "")
	described, err := admin.DescribeConsumerGroups([]string{group})
	Must(err)
	Equal(described[0].State, "Empty")
	Must(admin.DeleteConsumerGroupOffset(group, topic, 0))
	Must(admin.DeleteConsumerGroup(group))
	Must(admin.DeleteTopic(topic))
	return nil
}
