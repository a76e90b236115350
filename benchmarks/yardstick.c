/* The yardstick of simulator.py: greedy first-come-first-served, one prompt type, written as plainly as C allows.

   Time advances iteration by iteration; calendar[t mod stages] counts the requests that finish in iteration t. Requests
   are admitted, and so finish, in order of arrival: three counters stand for the queue and the batch. A request holds
   `prompt` tokens in its prefill iteration and one more in each of the `output` iterations that follow; an iteration
   takes d0 + d1 kv seconds. There is no eviction: where one would be due the loop gives up.

   arrival[n]   seconds, sorted
   finished[n]  seconds, written
   calendar     output + 1 zeros

   Returns the number of iterations, or -1 where the KV tokens pass the capacity. */

long greedy(long n, const double *arrival, double *finished, long *calendar, long prompt, long output, long capacity,
            double d0, double d1)
{
    const long stages = output + 1;
    long arrived = 0, admitted = 0, done = 0, kv = 0, slot = 0, iterations = 0;
    double now = 0.0;

    while (done < n) {
        while (arrived < n && arrival[arrived] <= now)
            arrived++;
        if (kv > capacity)
            return -1;
        const long last = slot == 0 ? stages - 1 : slot - 1; /* entering now, finished stages - 1 iterations later */
        while (admitted < arrived && (kv + prompt <= capacity || admitted == done)) {
            calendar[last]++;
            kv += prompt;
            admitted++;
        }
        if (admitted == done) {
            now = arrival[arrived];
            continue;
        }
        now += d0 + d1 * kv;
        kv -= calendar[slot] * (prompt + output);
        for (; calendar[slot] > 0; calendar[slot]--)
            finished[done++] = now;
        kv += admitted - done;
        slot = slot + 1 == stages ? 0 : slot + 1;
        iterations++;
    }
    return iterations;
}
