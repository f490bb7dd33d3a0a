-- The rules of `_state.py`, as one function: it takes the report and the time in seconds (NULL: the server's clock) and
-- returns the result. The states are JSON values; the table is unlogged, so it is empty after a crash of the server.
CREATE UNLOGGED TABLE IF NOT EXISTS codat_quota (name text PRIMARY KEY, state jsonb NOT NULL) WITH (fillfactor = 50);

CREATE OR REPLACE FUNCTION codat_quota_exchange_1(report jsonb, simulated double precision) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    live_for CONSTANT double precision := 30;
    long_silence CONSTANT double precision := 10;
    grace CONSTANT double precision := 10;
    ahead_of_foreground CONSTANT double precision := 0.5;
    ahead_of_background CONSTANT double precision := 0.125;
    retry CONSTANT double precision := 0.5;
    max_permits CONSTANT integer := 16;
    same_reset CONSTANT double precision := 60;
    fresh CONSTANT double precision := 1;
    minute CONSTANT double precision := 60;
    address_name CONSTANT text := 'address ' || (report->>'address');
    client_name CONSTANT text := 'client ' || (report->>'client');
    process CONSTANT text := report->>'process';
    spacing CONSTANT double precision := (report->>'interval')::double precision;
    tolerance CONSTANT double precision := (report->>'tolerance')::double precision;
    per_company CONSTANT integer := (report->>'per_company')::integer;
    concurrent CONSTANT integer := (report->>'concurrent')::integer;
    moment double precision;
    passed double precision;
    address jsonb;
    client jsonb;
    tat double precision;
    pause double precision;
    seen jsonb;
    start double precision;
    current_count double precision;
    count_before double precision;
    members jsonb;
    pauses jsonb;
    runs jsonb;
    remaining double precision;
    remaining_until double precision;
    remaining_observed double precision;
    exhausted_until double precision;
    exhausted_reset double precision;
    exhausted_at double precision;
    held jsonb;
    sequence bigint;
    is_member boolean;
    per_minute bigint := (report->>'per_minute')::bigint;
    slots jsonb := jsonb_build_array(report->'concurrent', report->'per_company');
    per_minute_before bigint;
    slots_before jsonb;
    total integer;
    reserved bigint;
    processes integer;
    granted integer := 0;
    decisions jsonb := '[]';
    item record;
    company text;
    seconds double precision;
    until double precision;
    observed double precision;
    remaining_left double precision;
    same_day boolean;
    expires double precision;
    change bigint;
    ahead double precision;
    slot double precision;
BEGIN
    INSERT INTO codat_quota VALUES (address_name, 'null'), (client_name, 'null') ON CONFLICT DO NOTHING;
    -- Always in this order, so that no two transactions wait for each other.
    SELECT state INTO address FROM codat_quota WHERE name = address_name FOR UPDATE;
    SELECT state INTO client FROM codat_quota WHERE name = client_name FOR UPDATE;
    moment := coalesce(simulated, extract(epoch FROM clock_timestamp()));
    IF address = 'null' THEN
        address := jsonb_build_object('last', moment, 'tat', moment + tolerance, 'pause', 0, 'seen', '{}'::jsonb,
                                      'minute', jsonb_build_array(moment, 0, 0));
    END IF;
    IF client = 'null' THEN
        client := jsonb_build_object('last', moment, 'members', '{}'::jsonb, 'pauses', '{}'::jsonb, 'runs', '{}'::jsonb,
                                     'remaining', '[]'::jsonb, 'exhausted', '[]'::jsonb);
    END IF;
    tat := (address->>'tat')::double precision;
    pause := (address->>'pause')::double precision;
    seen := address->'seen';
    start := (address->'minute'->>0)::double precision;
    current_count := (address->'minute'->>1)::double precision;
    count_before := (address->'minute'->>2)::double precision;
    members := client->'members';
    pauses := client->'pauses';
    runs := client->'runs';
    remaining := (client->'remaining'->>0)::double precision;
    remaining_until := (client->'remaining'->>1)::double precision;
    remaining_observed := (client->'remaining'->>2)::double precision;
    exhausted_until := (client->'exhausted'->>0)::double precision;
    exhausted_reset := (client->'exhausted'->>1)::double precision;
    exhausted_at := (client->'exhausted'->>2)::double precision;

    -- The clock was set, or no process was running.
    passed := moment - (address->>'last')::double precision;
    IF passed < 0 THEN
        tat := tat + passed;
        pause := pause + passed;
        start := start + passed;
        SELECT coalesce(jsonb_object_agg(key, value::double precision + passed), '{}') INTO seen
            FROM jsonb_each_text(seen);
    ELSIF passed > long_silence THEN
        tat := greatest(tat, moment + tolerance);
        SELECT coalesce(jsonb_object_agg(key, greatest(value::double precision, moment - live_for + grace)), '{}')
            INTO seen FROM jsonb_each_text(seen);
        address := address - 'per_minute';
    END IF;
    passed := moment - (client->>'last')::double precision;
    IF passed < 0 THEN
        SELECT coalesce(jsonb_object_agg(key, value || jsonb_build_object(
            'seen', (value->>'seen')::double precision + passed)), '{}') INTO members FROM jsonb_each(members);
        SELECT coalesce(jsonb_object_agg(key, value::double precision + passed), '{}') INTO pauses
            FROM jsonb_each_text(pauses);
        SELECT coalesce(jsonb_object_agg(key, jsonb_build_array(value->0, (value->>1)::double precision + passed)), '{}')
            INTO runs FROM jsonb_each(runs);
        remaining_until := remaining_until + passed;
        remaining_observed := remaining_observed + passed;
        exhausted_until := exhausted_until + passed;
        exhausted_at := exhausted_at + passed;
    ELSIF passed > long_silence THEN
        SELECT coalesce(jsonb_object_agg(key, value || jsonb_build_object(
            'seen', greatest((value->>'seen')::double precision, moment - live_for + grace))), '{}')
            INTO members FROM jsonb_each(members);
        client := client - 'limits';
    END IF;

    -- What the process holds; dead processes are forgotten.
    held := report->'held';
    sequence := coalesce((members->process->>'sequence')::bigint, 0);
    is_member := (report->>'leaves')::integer = 0;
    seen := seen - process;
    members := members - process;
    SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO seen
        FROM jsonb_each(seen) WHERE moment - (value::text)::double precision <= live_for;
    SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO members
        FROM jsonb_each(members) WHERE moment - (value->>'seen')::double precision <= live_for;
    -- The limits of the report before, which show that a process has others
    per_minute_before := CASE WHEN is_member AND seen <> '{}' THEN (address->>'per_minute')::bigint END;
    slots_before := CASE WHEN is_member AND members <> '{}' THEN client->'limits' END;
    per_minute_before := coalesce(per_minute_before, per_minute);
    slots_before := coalesce(slots_before, slots);
    IF is_member THEN
        seen := seen || jsonb_build_object(process, moment);
    ELSE
        per_minute := coalesce((address->>'per_minute')::bigint, per_minute);
        slots := coalesce(client->'limits', slots);
    END IF;
    SELECT coalesce(sum(slots.value::integer), 0) INTO total
        FROM jsonb_each(members) AS member, jsonb_each_text(member.value->'held') AS slots;
    IF is_member THEN
        SELECT total + coalesce(sum(value::integer), 0) INTO total FROM jsonb_each_text(held);
    END IF;

    -- Pauses
    FOR item IN SELECT key, value::double precision AS value FROM jsonb_each_text(report->'pauses') LOOP
        IF item.key = '' THEN
            pause := greatest(pause, moment + item.value);
            tat := greatest(tat, pause + tolerance);
        ELSE
            pauses := pauses || jsonb_build_object(
                item.key, greatest(coalesce((pauses->>item.key)::double precision, 0), moment + item.value));
        END IF;
    END LOOP;
    SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO pauses
        FROM jsonb_each(pauses) WHERE (value::text)::double precision > moment;

    -- The daily quota
    IF exhausted_until <= moment THEN
        exhausted_until := NULL;
    END IF;
    IF remaining_until <= moment THEN
        remaining := NULL;
        remaining_until := NULL;
    END IF;
    IF jsonb_array_length(report->'exhausted') > 0 THEN
        until := moment + (report->'exhausted'->>0)::double precision;
        IF exhausted_until IS NULL OR until > exhausted_until THEN
            exhausted_until := until;
            exhausted_reset := (report->'exhausted'->>1)::double precision;
            exhausted_at := moment;
        END IF;
        remaining := 0;
        remaining_until := until;
        remaining_observed := moment;
    END IF;
    IF jsonb_array_length(report->'remaining') > 0 THEN
        until := moment + (report->'remaining'->>1)::double precision;
        observed := moment - (report->'remaining'->>2)::double precision;
        remaining_left := greatest(0, (report->'remaining'->>0)::double precision - greatest(0, total - 1));
        same_day := remaining IS NOT NULL AND until <= remaining_until + same_reset;
        IF until <= moment OR (remaining IS NOT NULL AND until < remaining_until - same_reset) THEN
            NULL;
        ELSIF same_day AND (moment - observed > fresh OR observed < remaining_observed) THEN
            remaining := least(remaining, remaining_left);
        ELSE
            remaining := remaining_left;
            remaining_until := until;
            remaining_observed := observed;
            IF exhausted_until IS NOT NULL AND remaining_left > 0 AND observed > exhausted_at THEN
                exhausted_until := NULL;
            END IF;
        END IF;
    END IF;

    -- Reservations of runs
    SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO runs
        FROM jsonb_each(runs) WHERE (value->>1)::double precision > moment;
    IF is_member AND report->'runs' <> '{}' AND (report->>'sequence')::bigint > sequence THEN
        sequence := (report->>'sequence')::bigint;
        FOR item IN SELECT key, value::bigint AS value FROM jsonb_each_text(report->'runs') LOOP
            expires := coalesce((runs->item.key->>1)::double precision, remaining_until, moment + 86400);
            change := coalesce((runs->item.key->>0)::bigint, 0) + item.value;
            runs := runs - item.key;
            IF change > 0 THEN
                runs := runs || jsonb_build_object(item.key, jsonb_build_array(change, expires));
            END IF;
        END LOOP;
    END IF;

    SELECT coalesce(sum((value->>'reserved')::bigint), 0) INTO reserved FROM jsonb_each(members);
    SELECT reserved + coalesce(sum((value->>0)::bigint), 0) INTO reserved FROM jsonb_each(runs);
    IF is_member THEN
        reserved := reserved + (report->>'reserved')::bigint;
    END IF;
    SELECT greatest(1, count(*)) INTO processes FROM jsonb_object_keys(seen);

    -- Permits
    IF is_member THEN
        FOR item IN SELECT value FROM jsonb_array_elements(report->'permits') LOOP
            company := item.value->>0;
            ahead := CASE WHEN item.value->>1 = '1' THEN ahead_of_background ELSE ahead_of_foreground END;
            slot := greatest(moment, tat - tolerance, pause);
            SELECT coalesce((held->>company)::integer, 0) + coalesce(sum((value->'held'->>company)::integer), 0)
                INTO change FROM jsonb_each(members);
            IF exhausted_until IS NOT NULL THEN
                decisions := decisions || jsonb_build_array(jsonb_build_array(5, exhausted_until - moment));
            ELSIF item.value->>2 = '1' AND remaining IS NOT NULL AND reserved > 0 AND remaining <= reserved THEN
                decisions := decisions || jsonb_build_array(jsonb_build_array(4, remaining_until - moment));
            ELSIF pauses ? company THEN
                seconds := (pauses->>company)::double precision - moment;
                decisions := decisions || jsonb_build_array(jsonb_build_array(2, seconds));
            ELSIF company <> '' AND change >= per_company THEN
                decisions := decisions || jsonb_build_array(jsonb_build_array(2, retry));
            ELSIF total + granted >= concurrent THEN
                decisions := decisions || jsonb_build_array(jsonb_build_array(3, retry));
            ELSIF slot - moment > ahead THEN
                decisions := decisions || jsonb_build_array(jsonb_build_array(1, slot - moment - ahead));
            ELSIF granted >= max_permits OR (spacing > 0 AND granted >= greatest(1, ceil(ahead / spacing / processes))) THEN
                decisions := decisions || jsonb_build_array(jsonb_build_array(1, 0));
            ELSE
                tat := greatest(tat, slot) + spacing;
                held := held || jsonb_build_object(company, coalesce((held->>company)::integer, 0) + 1);
                remaining := CASE WHEN remaining IS NULL THEN NULL ELSE greatest(0, remaining - 1) END;
                granted := granted + 1;
                decisions := decisions || jsonb_build_array(jsonb_build_array(0, slot - moment));
            END IF;
        END LOOP;
        members := members || jsonb_build_object(process, jsonb_build_object(
            'seen', moment, 'held', held, 'reserved', (report->>'reserved')::bigint, 'sequence', sequence));
    END IF;

    -- About how many requests the last minute had
    passed := moment - start;
    IF passed >= minute THEN
        IF passed < 2 * minute THEN
            start := start + minute;
            count_before := current_count;
        ELSE
            start := moment;
            count_before := 0;
        END IF;
        current_count := 0;
        passed := moment - start;
    END IF;
    current_count := current_count + granted;

    UPDATE codat_quota SET state = jsonb_build_object(
        'last', moment, 'tat', tat, 'pause', pause, 'seen', seen,
        'minute', jsonb_build_array(start, current_count, count_before), 'per_minute', per_minute) WHERE name = address_name;
    UPDATE codat_quota SET state = jsonb_build_object(
        'last', moment, 'members', members, 'pauses', pauses, 'runs', runs, 'limits', slots,
        'remaining', CASE WHEN remaining IS NULL THEN '[]'::jsonb
            ELSE jsonb_build_array(remaining, remaining_until, remaining_observed) END,
        'exhausted', CASE WHEN exhausted_until IS NULL THEN '[]'::jsonb
            ELSE jsonb_build_array(exhausted_until, exhausted_reset, exhausted_at) END) WHERE name = client_name;
    SELECT coalesce(jsonb_object_agg(key, (value::text)::double precision - moment), '{}') INTO pauses
        FROM jsonb_each(pauses);
    RETURN jsonb_build_object(
        'permits', decisions,
        'processes', processes,
        'share', CASE WHEN spacing = 0 THEN max_permits ELSE
            least(max_permits, greatest(1, ceil(ahead_of_foreground / spacing / processes))) END,
        'used', current_count + count_before * (1 - passed / minute),
        'pause', greatest(0, pause - moment),
        'companies', pauses,
        'remaining', coalesce(remaining, -1),
        'reserved', reserved,
        'exhausted', coalesce(exhausted_until - moment, 0),
        'reset_at', CASE WHEN exhausted_until IS NULL THEN 0 ELSE exhausted_reset END,
        'limits', jsonb_build_array(per_minute_before) || slots_before);
END
$body$;
