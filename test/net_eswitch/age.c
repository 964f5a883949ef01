/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ageing. The ages, of flows and of indirect actions, are kept in a wheel of seconds. An alarm
 * looks at the slots whose second has come: one that was hit meanwhile moves to its new second, one
 * that was not is reported. It stays reported until it is destroyed, as with net_mlx5.
 */

#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "eswitch.h"

#define ALARM_US 250000

static uint64_t
seconds(uint64_t tsc)
{
	return tsc / rte_get_tsc_hz();
}

static uint64_t
last_hit(const struct esw_age *age)
{
	return load_relaxed(age->last_hit);
}

static uint64_t
due(const struct esw_age *age)
{
	return last_hit(age) + age->timeout * rte_get_tsc_hz();
}

static struct esw_age_list *
slot_of(struct esw_age_wheel *wheel, const struct esw_age *age)
{
	/* In the second after it is due, but not in one that has been looked at. */
	uint64_t second = RTE_MAX(seconds(due(age)) + 1, wheel->next_second);

	return &wheel->slot[second % ESW_AGE_SLOTS];
}

static struct esw_age_list *
list_of(struct esw_nic *nic, struct esw_age *age)
{
	return age->state == ESW_AGE_AGED ? &age->port->aged : &nic->ages.slot[age->slot];
}

static void
wait_in_wheel(struct esw_nic *nic, struct esw_age *age)
{
	struct esw_age_list *slot = slot_of(&nic->ages, age);

	age->state = ESW_AGE_WAITING;
	age->slot = slot - nic->ages.slot;
	TAILQ_INSERT_TAIL(slot, age, next);
}

static void
look_at_slot(struct esw_nic *nic, struct esw_age_list *slot, uint64_t now)
{
	struct esw_age_list waiting = TAILQ_HEAD_INITIALIZER(waiting);
	struct esw_age *age;

	TAILQ_CONCAT(&waiting, slot, next);
	while ((age = TAILQ_FIRST(&waiting)) != NULL) {
		TAILQ_REMOVE(&waiting, age, next);
		if (due(age) > now) {
			wait_in_wheel(nic, age);
			continue;
		}
		age->state = ESW_AGE_AGED;
		age->port->aged_news = true;
		TAILQ_INSERT_TAIL(&age->port->aged, age, next);
	}
}

static void
look_at_wheel(struct esw_nic *nic)
{
	uint64_t now = rte_rdtsc();
	uint64_t second = seconds(now);
	uint64_t slots = RTE_MIN(second + 1 - nic->ages.next_second, (uint64_t)ESW_AGE_SLOTS);
	uint64_t i, first = second + 1 - slots;

	nic->ages.next_second = second + 1;
	for (i = 0; i < slots; i++)
		look_at_slot(nic, &nic->ages.slot[(first + i) % ESW_AGE_SLOTS], now);
}

/* Whether to notify the port's application: once, until it has fetched the aged flows. */
static bool
take_news(struct esw_port *port)
{
	bool notify = port->dev != NULL && port->aged_news && !port->aged_notified;

	port->aged_news = false;
	if (notify)
		port->aged_notified = true;
	return notify;
}

static void
alarm(void *arg)
{
	struct rte_eth_dev *aged[ESW_MAX_PORTS];
	struct esw_nic *nic = arg;
	uint32_t i;

	pthread_mutex_lock(&nic->flow_lock);
	look_at_wheel(nic);
	for (i = 0; i < nic->ports; i++)
		aged[i] = take_news(nic->port[i]) ? nic->port[i]->dev : NULL;
	pthread_mutex_unlock(&nic->flow_lock);
	/* Without the lock: the callback may well call rte_flow. */
	for (i = 0; i < nic->ports; i++)
		if (aged[i] != NULL)
			rte_eth_dev_callback_process(aged[i], RTE_ETH_EVENT_FLOW_AGED, NULL);
	if (rte_eal_alarm_set(ALARM_US, alarm, nic) < 0)
		ESW_LOG(ERR, "%s: ageing stops: cannot set an alarm\n", nic->name);
}

/* Starts looking for flows that have aged. */
int
esw_age_start(struct esw_nic *nic)
{
	uint32_t i;
	int ret;

	for (i = 0; i < ESW_AGE_SLOTS; i++)
		TAILQ_INIT(&nic->ages.slot[i]);
	nic->ages.next_second = seconds(rte_rdtsc());
	ret = rte_eal_alarm_set(ALARM_US, alarm, nic);
	nic->alarm = ret == 0;
	return ret;
}

/* Stops it; waits for an alarm that is under way. */
void
esw_age_stop(struct esw_nic *nic)
{
	if (nic->alarm)
		rte_eal_alarm_cancel(alarm, nic);
	nic->alarm = false;
}

/* From now on it ages. The caller has filled in the rest. */
void
esw_age_add(struct esw_nic *nic, struct esw_age *age)
{
	store_relaxed(age->last_hit, rte_rdtsc());
	wait_in_wheel(nic, age);
}

/* Ends ageing, or reporting. */
void
esw_age_remove(struct esw_nic *nic, struct esw_age *age)
{
	if (age->state == ESW_AGE_NONE)
		return;
	TAILQ_REMOVE(list_of(nic, age), age, next);
	age->state = ESW_AGE_NONE;
}

/* Seconds since there was a packet. */
uint64_t
esw_age_idle_seconds(const struct esw_age *age)
{
	uint64_t now = rte_rdtsc();
	uint64_t hit = last_hit(age);

	return hit < now ? seconds(now - hit) : 0;
}
