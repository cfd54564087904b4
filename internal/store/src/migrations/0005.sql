-- `open` was the default, and is now the network of sheds that may reach the host's listeners. The container of each of these
-- rows is in what is now the filtered network.
UPDATE sheds SET spec = json_set(spec, '$.network', 'filtered') WHERE json_extract(spec, '$.network') = 'open';
