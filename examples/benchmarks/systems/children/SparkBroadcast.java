/*
 * The driver of the Spark benchmark: a broadcast variable, read by one task on every executor.
 *
 *     SparkBroadcast SIZE_BYTES EXECUTORS
 *
 * Settings come as system properties, as SparkConf reads them. The talk, one JSON object a line each way:
 * {"ready": true} first; then for each line {"seed": N} an answer {"seconds": T, "executors": E, "same": bool}.
 *
 * T runs from System.nanoTime() before SparkContext.broadcast, with the object in memory, to the latest one
 * that a task takes after its call of Broadcast.value(). On Linux that clock is CLOCK_MONOTONIC, which is one for
 * all network namespaces of a machine. E counts the executors that ran a task: each is to run one.
 */
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.Serializable;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkEnv;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.broadcast.Broadcast;

public final class SparkBroadcast {
    private static final long POLL_MS = 100;
    private static final int WARM_UP_JOBS = 3;

    /** What a task saw. */
    static final class Seen implements Serializable {
        final String executor;
        final long atNanos;
        final byte[] digest;

        Seen(String executor, long atNanos, byte[] digest) {
            this.executor = executor;
            this.atNanos = atNanos;
            this.digest = digest;
        }
    }

    static byte[] digest(byte[] data) throws Exception {
        return MessageDigest.getInstance("SHA-256").digest(data);
    }

    /** One task an executor: as many partitions as there are executors of one core. */
    static List<Seen> read(JavaSparkContext context, int executors, Broadcast<byte[]> broadcast) {
        List<Integer> numbers = new ArrayList<>();
        for (int number = 0; number < executors; number++) {
            numbers.add(number);
        }
        return context.parallelize(numbers, executors).map(number -> {
            byte[] value = broadcast.value();
            long atNanos = System.nanoTime();
            return new Seen(SparkEnv.get().executorId(), atNanos, digest(value));
        }).collect();
    }

    static String once(JavaSparkContext context, int executors, int size, long seed) throws Exception {
        byte[] data = new byte[size];
        new Random(seed).nextBytes(data);
        byte[] expected = digest(data);
        long beganNanos = System.nanoTime();
        Broadcast<byte[]> broadcast = context.broadcast(data);
        List<Seen> all = read(context, executors, broadcast);
        long lastNanos = all.stream().mapToLong(seen -> seen.atNanos).max().getAsLong();
        long distinct = all.stream().map(seen -> seen.executor).distinct().count();
        boolean same = all.stream().allMatch(seen -> Arrays.equals(seen.digest, expected));
        broadcast.destroy();
        return String.format(
            "{\"seconds\": %.6f, \"executors\": %d, \"same\": %b}", (lastNanos - beganNanos) * 1e-9, distinct, same);
    }

    public static void main(String[] arguments) throws Exception {
        int size = Integer.parseInt(arguments[0]);
        int executors = Integer.parseInt(arguments[1]);
        try (JavaSparkContext context = new JavaSparkContext(new SparkConf())) {
            // The driver counts as one more.
            while (context.statusTracker().getExecutorInfos().length < executors + 1) {
                if (context.sc().isStopped()) {
                    throw new IllegalStateException("Spark stopped before all executors were up");
                }
                Thread.sleep(POLL_MS);
            }
            for (int job = 0; job < WARM_UP_JOBS; job++) {
                once(context, executors, 1, job);
            }
            System.out.println("{\"ready\": true}");
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
            Pattern told = Pattern.compile("\"seed\": (\\d+)");
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                Matcher matcher = told.matcher(line);
                if (!matcher.find()) {
                    throw new IllegalArgumentException("not understood: " + line);
                }
                System.out.println(once(context, executors, size, Long.parseLong(matcher.group(1))));
            }
        }
    }
}
