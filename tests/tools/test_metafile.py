"""configs/metafile.yml is what tools/make_metafile.py writes from configs/paper_tables.yml."""

import yaml

from tests.conftest import ROOT


def test_the_committed_file_is_not_stale(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import make_metafile

    committed = (ROOT / 'configs' / 'metafile.yml').read_text(encoding='utf-8')
    assert committed == make_metafile.generated(), 'python tools/make_metafile.py writes it anew'


def test_results_of_trainings_are_kept(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import make_metafile

    rows = [dict(id='a', config='a.py', AP=1.5), dict(id='b', config='a.py', AP=1.5, same_as='a')]
    results = [dict(Task='Object Detection', Dataset='COCO val2017', Metrics={'box AP': 1.4})]
    models = yaml.safe_load(make_metafile.metafile({3: dict(rows=rows)}, dict(a=results)))['Models']
    assert [model['Name'] for model in models] == ['a']
    assert models[0]['Results'] == results
    assert models[0]['Paper Results'][0]['Metrics'] == {'box AP': 1.5}
