// Kafka's own Java clients: what consoles ask by AdminClient, and copying exactly once. Run as it is by a JDK:
// `java -cp 'JARS/*' JavaClients.java BOOTSTRAP`. It prints `name<TAB>outcome` as check.py does.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public class JavaClients {
    static final String RUN = UUID.randomUUID().toString().substring(0, 8);
    static String bootstrap, label;
    static Admin admin;

    interface Check {
        void run() throws Exception;
    }

    static String name(String what) {
        return what + "-" + RUN;
    }

    static void check(String what, Check check) {
        long began = System.currentTimeMillis();
        String outcome = "ok";
        try {
            check.run();
        } catch (Throwable failed) {
            failed.printStackTrace();
            outcome = failed.toString().replace('\n', ' ').replace(RUN, "RUN");
        }
        // What is logged there does not end its lines.
        System.out.println("\n" + label + "." + what + "\t" + outcome);
        System.err.println(what + " took " + (System.currentTimeMillis() - began) + " ms");
    }

    static void equal(Object seen, Object wanted) {
        if (!Objects.equals(seen, wanted)) throw new AssertionError(seen + " instead of " + wanted);
    }

    static void until(Callable<Boolean> condition) throws Exception {
        long deadline = System.currentTimeMillis() + 60_000;
        while (!condition.call()) {
            if (System.currentTimeMillis() > deadline) throw new AssertionError("not within the deadline");
            Thread.sleep(50);
        }
    }

    /** The error that the call ends with. */
    static Class<?> refused(Callable<?> call) throws Exception {
        try {
            call.call();
            return null;
        } catch (ExecutionException failed) {
            return failed.getCause().getClass();
        } catch (KafkaException failed) {
            return failed.getClass();
        }
    }

    static Map<String, Object> with(Object... pairs) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        for (int at = 0; at < pairs.length; at += 2) config.put((String) pairs[at], pairs[at + 1]);
        return config;
    }

    static KafkaProducer<String, String> producer(Object... pairs) {
        return new KafkaProducer<>(with(pairs), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Object... pairs) {
        Map<String, Object> config = with(pairs);
        config.putIfAbsent("auto.offset.reset", "earliest");
        config.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static void create(String topic, int partitions, String... configs) throws Exception {
        Map<String, String> settings = new HashMap<>();
        for (int at = 0; at < configs.length; at += 2) settings.put(configs[at], configs[at + 1]);
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(settings))).all().get();
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++)
            ends.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        until(() -> refused(() -> admin.listOffsets(ends).all().get()) == null);
    }

    static List<String> numbered(String prefix, int count) {
        return IntStream.range(0, count).mapToObj(number -> String.format("%s %03d", prefix, number)).collect(Collectors.toList());
    }

    static void produce(String topic, List<String> values) {
        try (var producer = producer()) {
            for (String value : values) producer.send(new ProducerRecord<>(topic, value, value));
        }
    }

    static List<String> consume(KafkaConsumer<String, String> reader, int count) {
        List<String> seen = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 30_000;
        while (seen.size() < count && System.currentTimeMillis() < deadline)
            reader.poll(Duration.ofMillis(200)).forEach(record -> seen.add(record.value()));
        reader.poll(Duration.ofMillis(300)).forEach(record -> seen.add(record.value()));
        Collections.sort(seen);
        return seen;
    }

    static List<String> committed(String topic, int count) {
        try (var reader = consumer("isolation.level", "read_committed")) {
            reader.assign(reader.partitionsFor(topic).stream().map(it -> new TopicPartition(topic, it.partition())).collect(Collectors.toList()));
            return consume(reader, count);
        }
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        String version = org.apache.kafka.common.utils.AppInfoParser.getVersion();
        boolean newest = !version.startsWith("3");
        label = "javaclients" + version.substring(0, 1);
        admin = Admin.create(with());

        check("cluster", () -> {
            var described = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
            equal(described.nodes().get().size(), 1);
            equal(described.controller().get().id(), described.nodes().get().iterator().next().id());
            equal(described.clusterId().get().length() > 8, true);
            equal(described.authorizedOperations().get().contains(org.apache.kafka.common.acl.AclOperation.ALTER_CONFIGS), true);
        });

        check("topics", () -> {
            String topic = name("java-topics");
            create(topic, 3, "cleanup.policy", "compact", "retention.ms", "12345");
            var options = new DescribeTopicsOptions().includeAuthorizedOperations(true);
            var described = admin.describeTopics(List.of(topic), options).allTopicNames().get().get(topic);
            equal(described.partitions().size(), 3);
            equal(described.partitions().get(0).isr().size(), 1);
            equal(described.authorizedOperations().size(), 8);
            equal(described.isInternal(), false);
            var byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(described.topicId()))).allTopicIds().get();
            equal(byId.get(described.topicId()).name(), topic);
            equal(refused(() -> admin.describeTopics(List.of(name("none"))).allTopicNames().get()), UnknownTopicOrPartitionException.class);
            equal(refused(() -> admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get()), TopicExistsException.class);
            equal(refused(() -> admin.createTopics(List.of(new NewTopic("a/b", 1, (short) 1))).all().get()), InvalidTopicException.class);
            equal(refused(() -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get()), InvalidPartitionsException.class);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            until(() -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 4);
            equal(admin.listPartitionReassignments().reassignments().get().size(), 0);
            admin.deleteTopics(List.of(topic)).all().get();
            equal(refused(() -> admin.deleteTopics(List.of(topic)).all().get()), UnknownTopicOrPartitionException.class);
        });

        check("configs", () -> {
            String topic = name("java-configs");
            create(topic, 1, "retention.ms", "12345");
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            var config = admin.describeConfigs(List.of(resource), options).all().get().get(resource);
            equal(config.get("retention.ms").value(), "12345");
            equal(config.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
            equal(config.get("cleanup.policy").isDefault(), true);
            for (ConfigEntry entry : config.entries()) {
                equal(entry.documentation() != null && !entry.documentation().isEmpty(), true);
                equal(entry.type() != ConfigEntry.ConfigType.UNKNOWN, true);
            }
            var set = new AlterConfigOp(new ConfigEntry("segment.ms", "7000"), AlterConfigOp.OpType.SET);
            var remove = new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(set, remove))).all().get();
            until(() -> {
                var now = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                return now.get("segment.ms").value().equals("7000") && now.get("retention.ms").isDefault();
            });
            var wrong = new AlterConfigOp(new ConfigEntry("segment.ms", "soon"), AlterConfigOp.OpType.SET);
            equal(refused(() -> admin.incrementalAlterConfigs(Map.of(resource, List.of(wrong))).all().get()), InvalidConfigurationException.class);
            var broker = new ConfigResource(ConfigResource.Type.BROKER, String.valueOf(admin.describeCluster().controller().get().id()));
            equal(admin.describeConfigs(List.of(broker)).all().get().get(broker).get("log.retention.ms") != null, true);
        });

        check("log_dirs", () -> {
            String topic = name("java-dirs");
            create(topic, 1);
            produce(topic, numbered("record", 100));
            int broker = admin.describeCluster().controller().get().id();
            until(() -> admin.describeLogDirs(List.of(broker)).allDescriptions().get().get(broker).values().stream()
                .anyMatch(it -> it.replicaInfos().containsKey(new TopicPartition(topic, 0))
                    && it.replicaInfos().get(new TopicPartition(topic, 0)).size() > 1000
                    && it.totalBytes().getAsLong() > it.usableBytes().getAsLong()));
        });

        check("offsets", () -> {
            String topic = name("java-offsets");
            create(topic, 1);
            var place = new TopicPartition(topic, 0);
            // Not so long ago that retention takes them.
            long now = System.currentTimeMillis();
            try (var producer = producer()) {
                for (long time : new long[] {now - 1000, now - 3000, now - 2000})
                    producer.send(new ProducerRecord<>(topic, 0, time, "key", "value")).get();
            }
            Map<String, OffsetSpec> specs = new TreeMap<>(Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(),
                "newest", OffsetSpec.maxTimestamp(), "time", OffsetSpec.forTimestamp(now - 2500), "later", OffsetSpec.forTimestamp(now + 5000)));
            Map<String, Long> found = new TreeMap<>();
            for (var spec : specs.entrySet())
                found.put(spec.getKey(), admin.listOffsets(Map.of(place, spec.getValue())).partitionResult(place).get().offset());
            equal(found, new TreeMap<>(Map.of("earliest", 0L, "latest", 3L, "newest", 0L, "time", 0L, "later", -1L)));
            equal(admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(place).get().lowWatermark(), 2L);
            equal(refused(() -> admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(9))).all().get()), org.apache.kafka.common.errors.OffsetOutOfRangeException.class);
        });

        check("groups", () -> {
            String topic = name("java-groups"), group = name("java-groups");
            create(topic, 2);
            produce(topic, numbered("record", 20));
            var places = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
            var reader = consumer("group.id", group, "client.id", "a-reader");
            reader.subscribe(List.of(topic));
            consume(reader, 20);
            reader.commitSync();
            var described = admin.describeConsumerGroups(List.of(group), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get().get(group);
            equal(described.members().size(), 1);
            var member = described.members().iterator().next();
            equal(member.clientId(), "a-reader");
            equal(member.assignment().topicPartitions(), Set.copyOf(places));
            equal(described.partitionAssignor(), "range");
            equal(described.authorizedOperations().size(), newest ? 5 : described.authorizedOperations().size());
            equal(refused(() -> admin.deleteConsumerGroups(List.of(group)).all().get()), GroupNotEmptyException.class);
            equal(refused(() -> admin.deleteConsumerGroupOffsets(group, Set.copyOf(places)).all().get()), GroupSubscribedToTopicException.class);
            equal(refused(() -> admin.alterConsumerGroupOffsets(group, Map.of(places.get(0), new OffsetAndMetadata(1))).all().get()), UnknownMemberIdException.class);
            long total = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            equal(total, 20L);
            var instance = new RemoveMembersFromConsumerGroupOptions();
            instance.reason("wanted out");
            admin.removeMembersFromConsumerGroup(group, instance).all().get();
            until(() -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty());
            reader.close();
            var listed = admin.listConsumerGroups().all().get().stream().filter(it -> it.groupId().equals(group)).findFirst().get();
            equal(listed.isSimpleConsumerGroup(), false);
            admin.alterConsumerGroupOffsets(group, Map.of(places.get(0), new OffsetAndMetadata(3, "moved"))).all().get();
            equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(places.get(0)).metadata(), "moved");
            admin.deleteConsumerGroupOffsets(group, Set.copyOf(places)).all().get();
            admin.deleteConsumerGroups(List.of(group)).all().get();
            equal(refused(() -> admin.deleteConsumerGroups(List.of(group)).all().get()), GroupIdNotFoundException.class);
            if (newest)
                equal(refused(() -> admin.describeConsumerGroups(List.of(group)).all().get()), GroupIdNotFoundException.class);
        });

        check("rebalance.cooperative", () -> rebalance("partition.assignment.strategy", CooperativeStickyAssignor.class.getName()));
        check("rebalance.sticky", () -> rebalance("partition.assignment.strategy", StickyAssignor.class.getName()));
        if (newest) check("rebalance.newer", () -> rebalance("group.protocol", "consumer"));
        check("static", JavaClients::staticMember);
        check("transactions", JavaClients::transactions);
        check("exactly_once", JavaClients::exactlyOnce);
        check("idempotent", () -> {
            String topic = name("java-idempotent");
            create(topic, 1);
            try (var producer = producer("max.in.flight.requests.per.connection", "5", "linger.ms", "0", "batch.size", "100", "compression.type", "zstd")) {
                for (String value : numbered("record", 500)) producer.send(new ProducerRecord<>(topic, value));
            }
            var place = new TopicPartition(topic, 0);
            var states = admin.describeProducers(List.of(place)).partitionResult(place).get().activeProducers();
            equal(states.size(), 1);
            equal(states.get(0).lastSequence(), 499);
            equal(states.get(0).currentTransactionStartOffset().isPresent(), false);
            equal(committed(topic, 500), numbered("record", 500));
        });
        check("refused", () -> {
            String topic = name("java-refused"), compacted = name("java-compacted");
            create(topic, 1, "max.message.bytes", "1000");
            create(compacted, 1, "cleanup.policy", "compact");
            try (var producer = producer("retries", "3")) {
                equal(refused(() -> producer.send(new ProducerRecord<>(topic, "x".repeat(5000))).get()), RecordTooLargeException.class);
                equal(refused(() -> producer.send(new ProducerRecord<>(compacted, null, "value")).get()), org.apache.kafka.common.InvalidRecordException.class);
                long ahead = System.currentTimeMillis() + 7_200_000;
                equal(refused(() -> producer.send(new ProducerRecord<>(topic, 0, ahead, "key", "value")).get()), InvalidTimestampException.class);
                producer.send(new ProducerRecord<>(topic, "small")).get();
            }
            equal(committed(topic, 1), List.of("small"));
        });
        admin.close();
    }

    /** Two members share, one leaves, nothing is read twice. */
    static void rebalance(String setting, String value) throws Exception {
        String topic = name("java-" + value.substring(value.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT));
        create(topic, 4);
        var first = consumer("group.id", topic, setting, value);
        var second = consumer("group.id", topic, setting, value);
        first.subscribe(List.of(topic));
        second.subscribe(List.of(topic));
        until(() -> {
            first.poll(Duration.ofMillis(50));
            second.poll(Duration.ofMillis(50));
            return first.assignment().size() == 2 && second.assignment().size() == 2;
        });
        produce(topic, numbered("record", 200));
        List<String> seen = new ArrayList<>();
        until(() -> {
            for (var reader : List.of(first, second)) reader.poll(Duration.ofMillis(100)).forEach(it -> seen.add(it.value()));
            return seen.size() >= 200;
        });
        Collections.sort(seen);
        equal(seen, numbered("record", 200));
        first.commitSync();
        second.commitSync();
        first.close();
        until(() -> {
            equal(second.poll(Duration.ofMillis(50)).count(), 0);
            return second.assignment().size() == 4;
        });
        produce(topic, numbered("more", 40));
        equal(consume(second, 40), numbered("more", 40));
        second.close();
    }

    /** The leader of a group restarts, and nobody else notices. */
    static void staticMember() throws Exception {
        String topic = name("java-static");
        create(topic, 2);
        int[] rebalanced = {0};
        var listener = new ConsumerRebalanceListener() {
            public void onPartitionsRevoked(Collection<TopicPartition> places) {
                rebalanced[0]++;
            }

            public void onPartitionsAssigned(Collection<TopicPartition> places) {}
        };
        Object[] config = {"group.id", topic, "session.timeout.ms", "20000", "heartbeat.interval.ms", "500"};
        Callable<KafkaConsumer<String, String>> restart = () -> {
            var made = consumer(concat(config, "group.instance.id", "one"));
            made.subscribe(List.of(topic));
            return made;
        };
        var first = restart.call();
        // The first of a group leads it.
        until(() -> first.poll(Duration.ofMillis(50)).isEmpty() && first.assignment().size() == 2);
        var other = consumer(concat(config, "group.instance.id", "two"));
        other.subscribe(List.of(topic), listener);
        until(() -> {
            first.poll(Duration.ofMillis(50));
            other.poll(Duration.ofMillis(50));
            return first.assignment().size() == 1 && other.assignment().size() == 1;
        });
        var held = first.assignment();
        first.close();
        rebalanced[0] = 0;
        var again = restart.call();
        until(() -> {
            other.poll(Duration.ofMillis(50));
            again.poll(Duration.ofMillis(50));
            return again.assignment().size() == 1;
        });
        for (int turn = 0; turn < 20; turn++) {
            other.poll(Duration.ofMillis(50));
            again.poll(Duration.ofMillis(50));
        }
        equal(again.assignment(), held);
        equal(rebalanced[0], 0);
        again.close();
        other.close();
    }

    static Object[] concat(Object[] pairs, Object... more) {
        List<Object> all = new ArrayList<>(Arrays.asList(pairs));
        all.addAll(Arrays.asList(more));
        return all.toArray();
    }

    static void transactions() throws Exception {
        String topic = name("java-transactions"), id = name("java-id");
        create(topic, 2);
        var older = producer("transactional.id", id);
        older.initTransactions();
        older.beginTransaction();
        for (String value : numbered("aborted", 10)) older.send(new ProducerRecord<>(topic, value, value));
        older.flush();
        var described = admin.describeTransactions(List.of(id)).description(id).get();
        equal(described.state(), TransactionState.ONGOING);
        equal(described.topicPartitions().size(), 2);
        var place = new TopicPartition(topic, 0);
        equal(admin.describeProducers(List.of(place)).partitionResult(place).get().activeProducers().get(0).currentTransactionStartOffset().getAsLong(), 0L);
        var options = new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING));
        equal(admin.listTransactions(options).all().get().stream().anyMatch(it -> it.transactionalId().equals(id)), true);
        older.abortTransaction();
        older.beginTransaction();
        for (String value : numbered("committed", 10)) older.send(new ProducerRecord<>(topic, value, value));
        older.commitTransaction();
        equal(committed(topic, 10), numbered("committed", 10));
        older.beginTransaction();
        older.send(new ProducerRecord<>(topic, "left open")).get();
        var newer = producer("transactional.id", id);
        newer.initTransactions();
        Class<?> fenced = refused(() -> {
            older.send(new ProducerRecord<>(topic, "late")).get();
            older.commitTransaction();
            return null;
        });
        equal(fenced == ProducerFencedException.class || fenced == InvalidProducerEpochException.class, true);
        older.close(Duration.ZERO);
        // What nobody ends is ended by an administrator.
        newer.beginTransaction();
        newer.send(new ProducerRecord<>(topic, "hanging")).get();
        admin.fenceProducers(List.of(id)).all().get();
        until(() -> admin.describeTransactions(List.of(id)).description(id).get().state() != TransactionState.ONGOING);
        newer.close(Duration.ZERO);
        equal(committed(topic, 10), numbered("committed", 10));
    }

    /** Copies in turns, of which some are aborted and one is crashed in; the offsets go along. */
    static void exactlyOnce() throws Exception {
        String source = name("java-source"), target = name("java-target"), group = name("java-copier");
        create(source, 3);
        create(target, 3);
        produce(source, numbered("record", 300));
        Object[] reading = {"group.id", group, "isolation.level", "read_committed", "max.poll.records", "40"};
        for (int life = 0; life < 3; life++) {
            var reader = consumer(concat(reading, "session.timeout.ms", "6000"));
            var writer = producer("transactional.id", name("java-copier"), "transaction.timeout.ms", "10000");
            writer.initTransactions();
            reader.subscribe(List.of(source));
            long deadline = System.currentTimeMillis() + 20_000;
            for (int turn = 0; System.currentTimeMillis() < deadline; ) {
                var records = reader.poll(Duration.ofMillis(500));
                if (records.isEmpty()) {
                    if (life == 2 && turn > 0) break;
                    continue;
                }
                turn++;
                writer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (var record : records) {
                    writer.send(new ProducerRecord<>(target, record.key(), record.value()));
                    offsets.put(new TopicPartition(source, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                writer.sendOffsetsToTransaction(offsets, reader.groupMetadata());
                if (turn == 2 && life < 2) {
                    writer.flush();
                    break;
                }
                writer.commitTransaction();
            }
            reader.close();
            // In the first two lives in the middle of a transaction: the next one aborts it.
            writer.close(Duration.ZERO);
        }
        equal(committed(target, 300), numbered("record", 300));
        long total = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        equal(total, 300L);
    }
}
