/* One rank of the Open MPI benchmark: MPI_Bcast of random bytes, timed and compared.
 *
 *     mpi_broadcast SIZE_BYTES
 *
 * Rank 0 reads one line {"seed": N} a broadcast from standard input and ends at its end. It answers with one
 * JSON line: {"ready": ranks} first, then {"seconds": T} for each broadcast.
 *
 * T runs from rank 0's clock after a barrier, its buffer filled, to the latest clock of any rank after its
 * MPI_Bcast. CLOCK_MONOTONIC is one for all network namespaces of a machine, so the two can be compared.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* splitmix64 (Steele, Lea and Flood 2014): enough that no two broadcasts look alike. */
static void fill(unsigned char *buffer, size_t size, uint64_t seed)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = seed + (at / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);
        word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
        word ^= word >> 31;
        memcpy(buffer + at, &word, size - at < 8 ? size - at : 8);
    }
}

/* The root's next seed, on every rank; 0 when there is none. Who waits for it looks once a millisecond: ranks
 * that spin inside MPI_Bcast meanwhile would take the cores from whatever else is measured in between. */
static uint64_t next_seed(int rank)
{
    uint64_t seed = 0;
    char line[256];
    if (rank == 0 && fgets(line, sizeof line, stdin) != NULL) {
        const char *colon = strchr(line, ':');
        seed = colon == NULL ? 0 : strtoull(colon + 1, NULL, 10);
    }
    MPI_Request request;
    MPI_Ibcast(&seed, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD, &request);
    const struct timespec pause = {0, 1000000};
    for (int known = 0; MPI_Test(&request, &known, MPI_STATUS_IGNORE), !known;)
        nanosleep(&pause, NULL);
    return seed;
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    size_t size = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    unsigned char *buffer = malloc(size + 8), *expected = malloc(size + 8);
    if (size == 0 || size > INT32_MAX || buffer == NULL || expected == NULL)
        MPI_Abort(MPI_COMM_WORLD, 2);
    memset(buffer, 0, size); /* fresh pages are faulted in here, not in the timed part */
    if (rank == 0) {
        printf("{\"ready\": %d}\n", ranks);
        fflush(stdout);
    }
    for (uint64_t seed; (seed = next_seed(rank)) != 0;) {
        fill(expected, size, seed);
        if (rank == 0)
            memcpy(buffer, expected, size);
        else
            memset(buffer, 0, size);
        MPI_Barrier(MPI_COMM_WORLD);
        double began = now_s();
        MPI_Bcast(buffer, (int)size, MPI_BYTE, 0, MPI_COMM_WORLD);
        double ended = now_s(), last;
        int same = memcmp(buffer, expected, size) == 0, all_same;
        MPI_Reduce(&ended, &last, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
        MPI_Reduce(&same, &all_same, 1, MPI_INT, MPI_MIN, 0, MPI_COMM_WORLD);
        if (rank == 0) {
            if (!all_same) {
                fprintf(stderr, "a rank received other bytes\n");
                MPI_Abort(MPI_COMM_WORLD, 3);
            }
            printf("{\"seconds\": %.6f}\n", last - began);
            fflush(stdout);
        }
    }
    MPI_Finalize();
    return 0;
}
